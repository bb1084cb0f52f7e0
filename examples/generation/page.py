def write(page, out): pass
