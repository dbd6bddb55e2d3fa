import copy

import torch
from torch import nn

from elmolite.pretraining.ema import WeightAverage
from elmolite.pretraining.sparse_rows import TouchedRows


def module_with(value):
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def test_the_average_is_that_of_the_definition():
    module = module_with(0.0)
    average = WeightAverage(module, 0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 5.0, 2.0, 8.0, 8.0, 3.0, 4.0, 4.0, 4.0, 1.0, 9.0]):
        nn.init.constant_(module.weight, value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = value if step == 0 else decay * expected + (1 - decay) * value
    with average.swapped():
        torch.testing.assert_close(module.weight.item(), expected)
    assert module.weight.item() == 9.0


def test_before_the_first_step_it_is_the_weights():
    module = module_with(3.0)
    with WeightAverage(module, 0.9).swapped():
        assert module.weight.item() == 3.0


def test_it_goes_on_from_its_state():
    module = module_with(1.0)
    average, resumed = WeightAverage(module, 0.9), WeightAverage(module, 0.9)
    average.update(0)
    nn.init.constant_(module.weight, 2.0)
    average.update(1)
    resumed.load_state(copy.deepcopy(average.state()))
    nn.init.constant_(module.weight, 3.0)
    for one in (average, resumed):
        one.update(2)
    assert torch.equal(average.state()["weights"][0], resumed.state()["weights"][0])


def test_a_table_of_which_steps_touch_few_rows_has_the_same_average():
    """Also where it is wanted on the way, and goes on from its state."""
    torch.manual_seed(0)
    module = nn.ParameterDict({"table": torch.randn(9, 2), "bias": torch.randn(9), "weight": torch.randn(2)}).double()
    tables = [module["table"], module["bias"]]
    whole, by_rows = WeightAverage(module, 0.8), WeightAverage(module, 0.8, tables)
    for step in range(40):
        rows = torch.randperm(8)[:3].sort().values
        by_rows.take_in([TouchedRows(table, rows, table[rows]) for table in tables])
        with torch.no_grad():
            module["weight"].normal_()
            for table in tables:
                table[rows] = torch.randn_like(table[rows])
        for average in (whole, by_rows):
            average.update(step)
        if step in (0, 12):
            state = copy.deepcopy(by_rows.state())
            by_rows = WeightAverage(module, 0.8, tables)
            by_rows.load_state(state)
        if step in (5, 10, 39):
            averages = []
            for average in (whole, by_rows):
                with average.swapped():
                    averages.append([weight.detach().clone() for weight in module.values()])
            torch.testing.assert_close(averages[1], averages[0], rtol=0, atol=1e-12)
