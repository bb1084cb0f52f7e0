"""One lock around every parallel kernel.

Numba's portable threading layer must not be entered from two threads at once, and labels are made
in a background thread while the main thread trains. Each kernel uses all cores by itself.
"""

import threading

PARALLEL_KERNELS = threading.Lock()
