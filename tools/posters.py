"""Save the still picture of every explorable for pages that show one: `python -m tools.posters`."""

from pathlib import Path

from sbm_lite import explorables

FOLDER = Path("book/assets/images")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for figure in (cls() for cls in explorables.EVERY):
        path = FOLDER / f"{figure.name}.png"
        path.write_bytes(figure.poster())
        print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
