"""What the report says of many photos together."""

import re

import pytest
import torch

from tests.jobs.folder import good, run
from torchlime import explain, jobs, metrics
from torchlime.fills import Constant
from torchlime.jobs import report, summary
from torchlime.segments import Grid

pytest.importorskip("pyarrow")


def explanations(count=5, batch_seed=0):
    generator = torch.Generator().manual_seed(batch_seed)
    images = torch.rand(count, 1, 4, 4, generator=generator)
    images[:, :, :, 2:] *= -1
    found = explain(
        lambda x: x.sum((2, 3)), images, segmenter=Grid(2, 2), fill=Constant(0.0), num_samples=32
    )
    return [found[i] for i in range(count)]


def test_the_mean_of_a_class_is_coloured_where_it_is_sure():
    given = explanations()
    each = summary.together(given)
    mean, error = metrics.mean_heatmap(given, (4, 4))
    html = summary.figure(each)
    titles = re.findall(r'title="(\S+) ± (\S+)"', html)
    assert len(titles) == 16
    assert [float(m) for m, _ in titles] == pytest.approx(mean.flatten().tolist(), rel=1e-2)
    assert [float(s) for _, s in titles] == pytest.approx(error.flatten().tolist(), rel=1e-1)
    sure = (mean.abs() > 2 * error).flatten().tolist()
    cells = re.findall(r"<span [^>]*>", html)
    assert ["background" in cell for cell in cells] == sure
    assert any(sure)
    assert "0 114 178" in cells[0]
    assert "213 94 0" in cells[3]
    assert "Mean evidence of the 5 photos" in html


def test_one_photo_has_no_mean_and_few_photos_need_no_pick():
    assert summary.figure(summary.together(explanations(1))) == ""
    classes = [summary.together(explanations(3, seed)) for seed in (0, 1)]
    assert summary.most_telling(classes) == []
    classes.append(summary.together(explanations(2, 2)))
    places = summary.most_telling(classes)
    evidence = torch.cat([each.evidence for each in classes])
    assert places == metrics.representative(evidence, summary.TELLING).tolist()
    assert len(set(places)) == summary.TELLING


def test_the_links_lead_to_the_photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = good("photos", 9)
    run(root, "out")
    report.write("out", "page.html")
    page = (tmp_path / "page.html").read_text()
    line = re.search("<p>Most informative: .*", page)[0]
    links = re.findall(r'href="#(photo-\w+)">([^<]+)<', line)
    assert len(links) == summary.TELLING
    for anchor, name in links:
        figure = page[page.index(f'<figure id="{anchor}">') :]
        assert f"<b>{name}</b>" in figure[: figure.index("</figure>")]
    found = jobs.Explanations("out")
    classes = [[i for i in sorted(found) if i.startswith(c)] for c in ("blue", "green", "red")]
    assert page.count('<figure class="mean">') == sum(len(ids) > 1 for ids in classes)
