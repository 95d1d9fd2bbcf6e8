"""`bigsvd recommend` and `recommend-evaluate`: top items of users, and how good they are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bigsvd.cli.commands import main
from bigsvd.cli.options import complain, json_option, tell
from bigsvd.errors import RequestError
from bigsvd.request import parse_bytes
from bigsvd.results.export import check_plot


@main.command("recommend")
@click.argument("factors")
@click.option("--user", default=None, metavar="ID", help="A user, by id; by number where users have no ids.")
@click.option("--similar", default=None, metavar="ID", help="An item: those most alike, by cosine of V*s.")
@click.option("--rows", default=None, metavar="NEW", help="Ratings of users that were not in training.")
@click.option("--all", "out", default=None, metavar="OUT", help="Write those of all users to a Zarr group.")
@click.option("-n", "n", type=int, default=10, show_default=True, help="How many items.")
@click.option("--seen", default=None, metavar="PATH", help="The ratings, where they are not where they were.")
@click.option("--users", default=None, metavar="FILE", help="Ids of users, one a line.")
@click.option("--items", default=None, metavar="FILE", help="Ids of items, one a line.")
@click.option("--memory", default="256MB", show_default=True, metavar="SIZE", help="Of scores held at once.")
@json_option
def recommend(
    factors: str, user: str | None, similar: str | None, rows: str | None, out: str | None, n: int,
    seen: str | None, users: str | None, items: str | None, memory: str, *, as_json: bool,
) -> None:  # fmt: skip
    """The best unseen items of users, from FACTORS of ratings.

    A line is an item and its score, behind the number of the user where there are several in NEW.
    Scores are U*s*Vt; those of new users r*V*Vt. Items that are already rated are left out.
    """
    from bigsvd.recommend.ratings import ids_of  # noqa: PLC0415 - only this command needs it
    from bigsvd.recommend.recommender import Recommender  # noqa: PLC0415 - the same

    if sum(asked is not None for asked in (user, similar, rows, out)) != 1:
        raise RequestError("one thing is recommended at a time", "give --user, --similar, --rows or --all")
    names = {"users": users, "items": items}
    known = {name: ids_of(path) for name, path in names.items() if path is not None}
    by = Recommender(factors, seen, **known)
    if by.predicted:
        complain(by.predicted)
    if out is not None:
        by.write(out, n, parse_bytes(memory))
        tell(f"{out}: items and scores of {by.factors.shape[0]:,} users, {n} each")
        return
    top = by.similar(similar, n) if similar else by.fold_in(rows, n) if rows else by.recommend(user or "", n)
    for row, (places, scores) in enumerate(zip(top.items, top.scores, strict=True)):
        pairs = [
            (by.items[i] if by.items else int(i), float(x))
            for i, x in zip(places, scores, strict=True)
            if i >= 0
        ]
        if as_json:
            told = {"items": [i for i, _ in pairs], "scores": [x for _, x in pairs]}
            click.echo(json.dumps({"row": row, **told, "predicted": by.predicted}))
            continue
        which = f"{row}\t" * (len(top.items) > 1)
        tell("\n".join(f"{which}{name}\t{score:.4g}" for name, score in pairs))


@main.command("recommend-evaluate")
@click.argument("ratings")
@click.option("-k", "ks", default="5,13,20,50", show_default=True, metavar="N,N", help="Ranks of PureSVD.")
@click.option("--holdout", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2,
              show_default=True, help="Share of each user's items that is hidden.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of what is hidden.")
@click.option("-n", "n", type=click.IntRange(1), default=10, show_default=True, help="Items recommended.")
@click.option("--ease/--no-ease", "with_ease", default=True, help="Whether EASE is beside it.")
@click.option("--penalty", default=200.0, show_default=True, help="EASE's.")
@click.option("--plot", "plot_file", default=None, metavar="PATH", help="Write nDCG by rank to this PNG.")
@click.option("--memory", default="1GB", show_default=True, metavar="SIZE", help="Refuses what needs more.")
@json_option
def evaluate(
    ratings: str, ks: str, holdout: float, seed: int, n: int, penalty: float, memory: str,
    plot_file: str | None, *, with_ease: bool, as_json: bool,
) -> None:  # fmt: skip
    """Hide some RATINGS, and see how well they are recommended.

    All items are ranked that were not left in training. Means over users with hidden items: precision is
    hits/n, recall is hits/hidden, nDCG is the sum over hits of 1/log2(1 + place), divided by the same sum of
    min(n, hidden) hits in front.
    """
    from bigsvd.recommend.evaluation import evaluate as evaluated  # noqa: PLC0415 - only this command needs it

    if not all(k.isdecimal() for k in ks.split(",")):
        raise RequestError(f"-k is {ks}", "give ranks with commas between, such as 5,13,20")
    if plot_file is not None:
        check_plot(plot_file, Path(ratings))
    found = evaluated(
        ratings, [int(k) for k in ks.split(",")], holdout=holdout, seed=seed, n=n,
        ease=penalty if with_ease else None,
        memory_bytes=parse_bytes(memory),
    )  # fmt: skip
    tell(json.dumps(found.to_dict()) if as_json else found.text)
    if plot_file is not None:
        found.plot(plot_file)
