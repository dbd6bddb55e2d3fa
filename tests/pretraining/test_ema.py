import copy

import torch
from torch import nn

from elmolite.pretraining.ema import EMA
from elmolite.pretraining.sparse_rows import RowGradient


def test_the_average_follows_its_definition():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 3.0)
    average, expected = EMA(module, 0.5), 3.0
    with average.swapped():
        assert module.weight.item() == expected  # the weights, before the first step
    for step, value in enumerate([1.0, 5.0, 2.0, 8.0, 8.0, 3.0, 4.0, 4.0, 4.0, 1.0, 9.0]):
        nn.init.constant_(module.weight, value)
        average.update(step, torch.tensor(True))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = value if step == 0 else decay * expected + (1 - decay) * value
    with average.swapped():
        torch.testing.assert_close(module.weight.item(), expected)
    assert module.weight.item() == 9.0


def test_lazy_updates_of_tables_give_the_same_average():
    """Also when the average is read or restored between steps."""
    torch.manual_seed(0)
    module = nn.ParameterDict({"table": torch.randn(9, 2), "bias": torch.randn(9), "weight": torch.randn(2)}).double()
    tables = [module["table"], module["bias"]]
    whole, by_rows = EMA(module, 0.8), EMA(module, 0.8, tables)
    for step in range(40):
        rows = torch.randperm(8)[:3].sort().values
        by_rows.update_rows([RowGradient(table, rows, table[rows]) for table in tables])
        with torch.no_grad():
            module["weight"].normal_()
            for table in tables:
                table[rows] = torch.randn_like(table[rows])
        for average in (whole, by_rows):
            average.update(step, torch.tensor(True))
        if step in (0, 12):
            state = copy.deepcopy(by_rows.state_dict())
            by_rows = EMA(module, 0.8, tables)
            by_rows.load_state_dict(state)
        if step in (5, 10, 39):
            averages = []
            for average in (whole, by_rows):
                with average.swapped():
                    averages.append([weight.detach().clone() for weight in module.values()])
            torch.testing.assert_close(averages[1], averages[0], rtol=0, atol=1e-12)
