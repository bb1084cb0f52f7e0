"""How Sphinx builds the site: `make docs`.

Why Sphinx: sphinx-gallery runs the tutorials in the build, offers them as notebooks, and links each function
that they call to its page and back; autodoc reads the docstrings as they are. Pages are Markdown, by
myst-parser, so that those that scripts write need no second form. The theme brings its fonts and scripts,
and formulas become MathML while the site is built: no page loads anything from elsewhere.
"""

import os
import sys
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
# One thread: figures of tutorials are then alike on machines with more, and nothing waits for busy cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import emuloss  # noqa: E402
from building import cards, chooser, docstrings, mathml, pictures, play, reference  # noqa: E402

project = "emuloss"
author = "The emuloss developers"
copyright = author
version = release = emuloss.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "tutorials",
    "building",
    "_generated/chooser.md",
    "sg_execution_times.rst",
    "_generated/tutorials/*.ipynb",
    "_generated/tutorials/sg_execution_times.rst",
    "play",
]
suppress_warnings = ["config.cache"]  # the gallery's settings hold functions, and are read anew each time

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_use_rtype = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "_generated/tutorials",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "_generated/backreferences",
    "doc_module": ("emuloss",),
    "reference_url": {"emuloss": None},
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "thumbnail_size": (400, 280),
    "matplotlib_animations": False,
    "min_reported_time": 60,
    "reset_modules": ("matplotlib", "building.running.afresh"),
}

html_theme = "pydata_sphinx_theme"
html_title = f"emuloss {release}"
html_static_path = ["_static"]
html_css_files = ["emuloss.css"]
html_js_files = ["chooser.js"]
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_extra_path = ["_generated/extra"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "emuloss"},
    "show_prev_next": False,
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "article_header_start": ["breadcrumbs"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_end": ["theme-switcher"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_sidebars = {name: [] for name in ("index", "chooser", "theory", "related", "play-here", "contributing")}

# Warnings of libraries are not those of the documentation.
warnings.filterwarnings("ignore", category=DeprecationWarning)


def without_stale_tutorials(app, config):
    """Remove what an earlier build made of tutorials that are gone, or have another name by now."""
    folder = Path(app.srcdir)
    there = {path.stem for path in (folder / "tutorials").glob("plot_*.py")}
    for path in (folder / "_generated/tutorials").glob("plot_*"):
        if path.name.split(".")[0] not in there:
            path.unlink()


def setup(app):
    """Write what is made from the code, and say how formulas, docstrings and links become HTML."""
    app.connect("config-inited", without_stale_tutorials)
    for make in (reference, cards, chooser, pictures, play):
        app.connect("config-inited", make.write)
    app.connect("autodoc-process-docstring", docstrings.as_restructured_text, priority=100)
    app.connect("source-read", docstrings.links_to_files)
    mathml.register(app)
    return {"parallel_read_safe": True}
