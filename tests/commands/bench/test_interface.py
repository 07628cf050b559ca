"""Tests of ``conformergen.commands.bench.interface``."""

from conformergen.commands.bench.interface import Comparison, Peer, measure, summary


def test_ratios_are_of_cpu_time_for_one_unit():
    def ours():
        return sum(range(200_000))

    def theirs():
        return [sum(range(200_000)) for _ in range(4)]

    work = Comparison(
        name="sum", unit="sums", ours=ours, units=1, peers={"four": Peer(call=theirs, units=1, at_least=1.0)}, rounds=3
    )
    measured = measure(work)
    assert 2.0 < measured.ratios["four"] < 8.0
    assert summary([work], [measured])["four"]["kept"]
