"""``--full`` is the paper's setting, as far as the paper states it."""

from __future__ import annotations

from suture.attacks import CW, JSMA
from suture.studies import STUDIES
from suture.studies.dare.methods import OURS, method
from suture.studies.dare.subject import ATTACKS, DarePlan
from suture.studies.paper import printed


def test_every_network_and_scenario_of_the_paper():
    study = STUDIES["dare-tables"](full=True, networks=())
    rows = printed("dare").blocks["robustness"]
    assert {key[0] for key in rows} == {"alexnet", "vgg16", "vgg19"}
    keys = [cell.key for cell in study.cells()]
    for network, _, attack in rows:
        assert {f"{network}-{OURS}", f"{network}-{attack}"} <= set(keys)
    assert {attack for _, _, attack in rows} == set(ATTACKS)
    swept = {key.removeprefix("alexnet-") for key in keys if key.startswith("alexnet-q=")}
    assert swept == {"q=75", "q=80", "q=85", "q=90", "q=100"}, "95 is DARE's own"


def test_sizes_and_settings():
    plan = DarePlan(STUDIES["dare-tables"](full=True), "vgg16")
    assert plan.size(20_000) >= 50_000, "all images: one half to train, the other to look at"
    assert plan.size(1_000, full=5_000) == 5_000, "adversarial images of each attack"
    dare = method(OURS, plan)
    assert (dare.q, dare.p, dare.share) == (95.0, 1, 0.5), "section 4.4, Formula 3, section 3.2"
    assert dare.grid.limit == 10.0 and plan.study.epochs >= 60
    assert isinstance(plan.attacks["C&W"], CW) and plan.attacks["C&W"] == CW()
    assert plan.attacks["JSMA"] == JSMA()
