"""`gradcourse progress`: a table and a picture of what was done, or a file to hand on."""

from pathlib import Path

from gradcourse import journal
from gradcourse.learner import course, record


def show(picture=None):
    """Print the table and save the picture.

    Args:
        picture: where to save it; None: progress.png in the current folder.

    Raises:
        OSError: it can't be saved.
    """
    lessons, done = course.lessons(course.folder()), record.Record(journal.read())
    print(record.summary(lessons, done))
    if done.events:
        print(f"Kept in {journal.path()}; nothing is sent anywhere.")
    path = picture or Path("progress.png")
    _save(path, lessons, done)
    print(f"Picture: {path}")


def _save(path, lessons, done):
    import matplotlib as mpl

    mpl.use("agg")
    from gradcourse.learner.picture import draw

    if path.suffix != ".png" or not path.parent.is_dir():
        raise OSError(None, "a picture is a .png in a folder that exists", str(path))
    draw(lessons, done).savefig(path, dpi=150)


def export(path, name=""):
    """Write the file that a learner may hand to a teacher, and print what is in it.

    Raises:
        OSError: it exists or can't be written.
    """
    from gradcourse.learner import export as handing

    events = journal.read()
    handing.write(path, events, name)
    who = f"the name {name!r}" if name else "no name (--name NAME puts one in)"
    print(f"{path}: {len(events)} events and {who}.")
    print("In it: your guesses and how they came out, which questions you checked and passed, how many hints you")
    print("opened, each with its time. No code, no answers. Nothing was sent: hand the file on yourself, or don't.")
