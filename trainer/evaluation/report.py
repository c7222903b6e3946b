def write_report(folder, *a):
    folder.mkdir(exist_ok=True)
    (folder / "classes.csv").touch()
