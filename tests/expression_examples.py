"""
Item attributes, by what the service takes and what it does not.

The package's check of the input and the stand-in are two programs, and have to be of one mind; both are tested with
these.
"""

from __future__ import annotations

#: What is taken: the expression, and its conditions as column (in upper case) and value.
TAKEN: list[tuple[str, list[tuple[str, str]]]] = [
    ('ITEMS.genres = "Comedy"', [("GENRES", "Comedy")]),
    ('ITEMS.genres = "Comedy" AND ITEMS.genres = "Action"', [("GENRES", "Comedy"), ("GENRES", "Action")]),
    ('ITEMS.CATEGORY_L1 = "tools"', [("CATEGORY_L1", "tools")]),
    ('ITEMS._hidden2 = "x"', [("_HIDDEN2", "x")]),
    ('items.Year = 1 and Items.b="x"AND ITEMS.c = ""', [("YEAR", "1"), ("B", "x"), ("C", "")]),
    (' Items.a="x"\tand\nitems.b = "y" ', [("A", "x"), ("B", "y")]),
    ("ITEMS.year = 1995", [("YEAR", "1995")]),
    ("ITEMS.price = -1.5 AND ITEMS.stock=+10", [("PRICE", "-1.5"), ("STOCK", "+10")]),
    ("ITEMS.price = .5", [("PRICE", ".5")]),
    ("ITEMS.price = 5.", [("PRICE", "5.")]),
    ("ITEMS.price = 1e3 AND ITEMS.price = 1.5E-07", [("PRICE", "1e3"), ("PRICE", "1.5E-07")]),
    ('ITEMS.title = "Say \\"hi\\" OR IN (x) != \'y\' \\\\"', [("TITLE", "Say \"hi\" OR IN (x) != 'y' \\")]),
    ('ITEMS.title = "鬼滅 AND | $x\n≠"', [("TITLE", "鬼滅 AND | $x\n≠")]),
]

#: What is not: the expression.
REFUSED: list[str] = [
    "",
    "  ",
    "ITEMS.a",
    "ITEMS.a =",
    'ITEMS.a = "x" AND',
    'ITEMS.a = "x" OR ITEMS.b = "y"',
    'ITEMS.a = "x" ITEMS.b = "y"',
    'ITEMS.a = "x" ANDITEMS.b = "y"',
    'ITEMS.a = "x" | ITEMS.b = "y"',
    'ITEMS.a IN ("x", "y")',
    'ITEMS.a = ("x")',
    'ITEMS.a != "x"',
    'ITEMS.a <> "x"',
    'ITEMS.a == "x"',
    "ITEMS.a > 5",
    "ITEMS.a = 'x'",
    'ITEMS.a = "x',
    "ITEMS.a = Comedy",
    "ITEMS.a = true",
    "ITEMS.a = 19th",
    "ITEMS.a = 1.2.3",
    "ITEMS.a = 1e",
    "ITEMS.a = .",
    "ITEMS.a = - 1",
    "ITEMS.a = 0x10",
    "ITEMS.a = 1_000",
    "ITEMS.a = ١٩٩٥",
    "ITEMS.a = NaN",
    "ITEMS.a = $VALUE",
    'NOT ITEMS.a = "x"',
    '(ITEMS.a = "x")',
    'USERS.a = "x"',
    'ITEM.a = "x"',
    'a = "x"',
    'ITEMS. a = "x"',
    'ITEMS.1a = "x"',
    'ITEMS.a-b = "x"',
    'ITEMS.é = "x"',
    'ITEMS.a.b = "x"',
    "ITEMS.a = CurrentItem.a",
    'ITEMS.a = "x" IF CurrentUser.a = 1',
]
