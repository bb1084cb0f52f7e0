// "Which loss?": shows the one answer that the form asks for. Without scripts the first is shown.
document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector("form.chooser");
  if (!form) return;
  const answers = [...document.querySelectorAll("section.answer")];
  const show = () => {
    const given = new FormData(form);
    const key = JSON.stringify(["model", "metric", "fields"].map((name) => given.get(name)));
    const found = answers.map((each) => JSON.stringify(JSON.parse(each.dataset.answer)) !== key);
    answers.forEach((each, k) => { each.hidden = found[k]; });
  };
  form.addEventListener("change", show);
  show();
});
