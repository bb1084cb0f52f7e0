"""What the package stands on and what knows no field: arguments, files, threads, workers, processes."""
