"""What an evaluation found, and what it is good for: figures, criteria, a verdict, all of it as text.

Plain Python: `emuloss show` reads it without NumPy, and without torch.
"""
