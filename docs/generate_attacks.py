"""Write ``docs/attacks.md`` from ``suture.attacks``: ``python docs/generate_attacks.py``."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

from suture import attacks
from suture.attacks import ATTACKS, Attack

PAGE = Path(__file__).with_name("attacks.md")
HEAD = """# Attacks

<!-- Written by docs/generate_attacks.py from the docstrings in src/suture/attacks. -->

An attack is a frozen dataclass. Its fields are its hyper-parameters; they go into every
record. Call it with a model and a batch:

```python
from suture import Square, data, models
from suture.training import TrainConfig, train

digits = data.load("digits")
model = train(models.build("digits_cnn"), digits, config=TrainConfig(epochs=2)).model
result = Square(norm="linf", eps=0.2, queries=50)(model, digits.test.batch(8), generator=0)
print(result.success, result.queries)
```

No attack is believed: the base class moves its images into the ball and into [0, 1] and classifies
them again. An image's result depends on that image, the model, the parameters and the seed; not on
batch size, order, or other images. `queries` counts the attack's forwards per image; the clean
check and the final decision are not among them (`AttackResult.checks`). An image that is wrong from
the start is not attacked and counts as wrong.
"""


def kinds() -> list[type[Attack]]:
    """All attacks that the package exports, in alphabetical order."""
    found = [getattr(attacks, name) for name in attacks.__all__]
    own = [k for k in found if inspect.isclass(k) and issubclass(k, Attack) and k is not Attack]
    return sorted((k for k in own if not inspect.isabstract(k)), key=lambda k: k.__name__.lower())


def page() -> str:
    """The whole page."""
    shared = [_field(field) for field in dataclasses.fields(Attack)]
    fields = (
        f"All attacks share these fields: {', '.join(shared)}. Radii are in pixel values of "
        "[0, 1]; in L0 `eps` is a number of pixels.\n"
    )
    table = [
        "| attack | what it does | norms | knows | own fields |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = [_row(kind) for kind in kinds()]
    return "\n".join([HEAD, fields, *table, *rows, "", _names(), *_others()])


def _others() -> list[str]:
    """What the package exports beside attacks, in a line each."""
    found = [(name, getattr(attacks, name)) for name in sorted(attacks.__all__)]
    mine = [
        (n, o)
        for n, o in found
        if n not in ("ATTACKS", "Attack", "AttackResult") and o not in kinds()
    ]
    lines = [f"- `{name}`: {_summary(thing)}" for name, thing in mine]
    return ["Beside them the package has:\n", *lines, ""] if lines else []


def _row(kind: type[Attack]) -> str:
    norms = ", ".join(getattr(kind, "norms", ()))
    cells = [f"`{kind.__name__}`", _summary(kind), norms, kind.knowledge, _fields(kind) or "—"]
    return f"| {' | '.join(cells)} |"


def _summary(kind: object) -> str:
    """The first paragraph of the docstring, one line."""
    text = inspect.cleandoc(kind.__doc__ or "—").split("\n\n")[0]
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _fields(kind: type[Attack]) -> str:
    """Fields that the base does not have, or with another default than the base's."""
    base = {field.name: field.default for field in dataclasses.fields(Attack)}
    own = [f for f in dataclasses.fields(kind) if f.init and base.get(f.name, ...) != f.default]
    return ", ".join(_field(field) for field in own)


def _field(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return f"`{field.name}`"
    value = field.default
    text = f"{value:.4g}" if isinstance(value, float) else repr(value)
    return f"`{field.name}={text if len(text) < 30 else '…'}`"


def _names() -> str:
    named = ", ".join(f"`{name}`" for name in sorted(ATTACKS))
    return (
        f"On the command line `--attack` takes {named}. `--norm` and `--eps` are the attack's own "
        "unless you give them.\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
