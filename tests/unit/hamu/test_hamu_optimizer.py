"""The optimizer around the step: closures, parameters, schedules, retracting, failure."""

import math

import pytest
import torch
from torch import Tensor, nn

from core.hamu import HAMU

loss_of = nn.functional.cross_entropy


class Task:
    """A small network with a retain and a forget set, the same for every test."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).to(dtype)
        self.x, self.y = torch.randn(40, 6, dtype=dtype), torch.randint(0, 3, (40,))

    def retain(self) -> Tensor:
        return loss_of(self.model(self.x[:30]), self.y[:30])

    def forget(self) -> Tensor:
        return loss_of(self.model(self.x[30:]), self.y[30:])

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]

    def losses(self) -> dict[str, object]:
        return {"retain_loss": self.retain, "forget_loss": self.forget}


def moved(before: list[Tensor], after: list[Tensor]) -> list[Tensor]:
    return [b - a for a, b in zip(before, after, strict=True)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_step_realises_its_first_order_promise():
    task = Task()
    optimizer = HAMU(task.model.parameters(), lr=1e-4)
    step = optimizer.step(**task.losses())
    gain = float(task.forget().detach() - step.forget_loss)
    change = float(task.retain().detach() - step.retain_loss)
    assert gain == pytest.approx(float(step.promised_forget_gain), rel=1e-3)
    assert change == pytest.approx(float(step.predicted_retain_change), rel=1e-2)


def test_promises_are_in_real_units_when_gradients_were_clipped():
    task = Task()
    optimizer = HAMU(task.model.parameters(), lr=1e-3, max_grad_norm=0.01)
    step = optimizer.step(**task.losses())
    assert float(step.assessment.forget_clip) < 0.1
    gain = float(task.forget().detach() - step.forget_loss)
    assert gain == pytest.approx(float(step.promised_forget_gain), rel=1e-2)
    assert float(step.update_norm) <= 1e-3 * 0.01 * (1 + 1e-9)


def test_assessing_changes_no_weight_and_leaves_no_gradient():
    task = Task()
    before = task.weights()
    optimizer = HAMU(task.model.parameters())
    assessment = optimizer.assess(**task.losses())
    assert same(before, task.weights())
    assert all(p.grad is None for p in task.model.parameters())
    assert assessment.row()["verdict"] == assessment.verdict
    assert float(assessment.retain_loss) == pytest.approx(float(task.retain().detach()))


def test_micro_batches_give_the_same_step_as_one_batch():
    steps = []
    for whole in (True, False):
        task = Task()

        def in_pieces(task: Task = task) -> Tensor:
            total = torch.zeros((), dtype=torch.float64)
            for at in range(30, 40, 3):
                part = slice(at, min(at + 3, 40))
                piece = loss_of(task.model(task.x[part]), task.y[part], reduction="sum") / 10
                piece.backward()
                total += piece.detach()
            return total

        optimizer = HAMU(task.model.parameters(), lr=0.1)
        steps.append(optimizer.step(retain_loss=task.retain, forget_loss=task.forget if whole else in_pieces))
        steps.append(task.weights())
    torch.testing.assert_close(steps[0].forget_loss, steps[2].forget_loss)
    for one, other in zip(steps[1], steps[3], strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_parameters_take_no_part():
    task = Task()
    task.model[0].weight.requires_grad_(False)
    before = task.weights()
    step = HAMU(task.model.parameters(), lr=0.1).step(**task.losses())
    assert len(step.gram) == 3
    assert [bool(d.any()) for d in moved(before, task.weights())] == [False, True, True, True]


def test_a_gradient_left_on_a_frozen_parameter_is_ignored(handing):
    weights = [torch.zeros(3, requires_grad=True), torch.zeros(3)]
    gradients = [torch.tensor([1.0, 0.0, 0.0]), torch.ones(3)]
    optimizer = HAMU(weights, lr=0.1, stop_rule="none")
    step = optimizer.step(retain_loss=handing(weights, gradients), forget_loss=handing(weights, gradients[::-1]))
    assert len(step.gram) == 1
    assert not bool(weights[1].any())


def test_tied_weights_count_and_move_once():
    shared = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    r, f = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), torch.tensor([0.2, 1.0, 0.0], dtype=torch.float64)
    before = shared.detach().clone()
    optimizer = HAMU([shared, shared], lr=0.1)
    step = optimizer.step(retain_loss=lambda: r @ shared, forget_loss=lambda: f @ shared)
    assert step.gram.shape == (1, 3)
    assert float(f @ (shared.detach() - before)) == pytest.approx(float(step.promised_forget_gain))


def test_a_parameter_neither_loss_reaches_is_left_out():
    task = Task()
    idle = nn.Parameter(torch.ones(3, dtype=torch.float64))
    step = HAMU([*task.model.parameters(), idle], lr=0.1).step(**task.losses())
    assert len(step.gram) == 4
    assert torch.equal(idle.detach(), torch.ones(3, dtype=torch.float64))


def test_layers_group_the_tensors_of_a_module():
    task = Task()
    assert len(HAMU(task.model.named_parameters(), block="layer").assess(**task.losses()).gram) == 2
    assert len(HAMU(task.model.parameters(), block="model").assess(**task.losses()).gram) == 1
    with pytest.raises(ValueError, match="named_parameters"):
        HAMU(task.model.parameters(), block="layer")


def test_schedulers_set_the_rate():
    lengths = []
    task = Task()
    optimizer = HAMU(task.model.parameters(), lr=0.1, max_grad_norm=None)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: (1.0, 0.1, 0.0)[epoch])
    for _ in range(3):
        before = task.weights()
        step = optimizer.step(**task.losses())
        norm = math.sqrt(sum(float(d.square().sum()) for d in moved(before, task.weights())))
        lengths.append(norm / (0.1 * step.row()["retain_grad_norm"]))
        assert not bool(step.should_stop)
        if len(lengths) < 3:
            scheduler.step()
    assert lengths == pytest.approx([1.0, 0.1, 0.0], rel=1e-6)


def test_state_dict_carries_the_dial():
    optimizer = HAMU(Task().model.parameters(), lr=0.3, quota_ratio=0.2)
    other = HAMU(Task().model.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert (other.param_groups[0]["lr"], other.param_groups[0]["quota_ratio"]) == (0.3, 0.2)


@pytest.mark.parametrize("side", ["retain_loss", "forget_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_stops_without_touching_the_weights(side, value):
    task = Task()
    before = task.weights()
    losses = task.losses()
    good = losses[side]
    losses[side] = lambda: good() * value
    step = HAMU(task.model.parameters(), lr=0.1).step(**losses)
    assert step.stop_reason == "non_finite"
    assert same(before, task.weights())


def test_a_non_finite_gradient_behind_a_finite_loss_stops_too(take):
    r, f = torch.ones(3), torch.tensor([1.0, math.nan, 0.0])
    step, (delta,) = take([r], [f])
    assert step.stop_reason == "non_finite"
    assert torch.equal(delta, torch.zeros(3))


def test_two_runs_are_equal_bit_by_bit():
    runs = []
    for _ in range(2):
        task = Task(torch.float32)
        optimizer = HAMU(task.model.parameters(), lr=0.1)
        rows = [optimizer.step(**task.losses()).row() for _ in range(5)]
        runs.append((rows, task.weights()))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_retract_restores_to_within_a_rounding(dtype):
    task = Task(dtype)
    before = task.weights()
    optimizer = HAMU(task.model.parameters(), lr=0.5)
    step = optimizer.apply(optimizer.assess(**task.losses()))
    assert not same(before, task.weights())
    optimizer.retract(step)
    largest = max(float(w.abs().max()) for w in before) + float(step.update_norm)
    for difference in moved(before, task.weights()):
        assert float(difference.abs().max()) <= torch.finfo(dtype).eps * largest


def test_exact_retract_restores_every_bit():
    task = Task(torch.float32)
    before = task.weights()
    optimizer = HAMU(task.model.parameters(), lr=0.5, exact_retract=True)
    optimizer.retract(optimizer.apply(optimizer.assess(**task.losses())))
    assert same(before, task.weights())


def test_applying_again_at_a_smaller_rate_is_the_step_of_that_rate():
    retried, fresh = Task(), Task()
    optimizer = HAMU(retried.model.parameters(), lr=0.4, exact_retract=True)
    assessment = optimizer.assess(**retried.losses())
    first = optimizer.apply(assessment)
    optimizer.retract(first)
    optimizer.param_groups[0]["lr"] = 0.1
    second = optimizer.apply(assessment)
    HAMU(fresh.model.parameters(), lr=0.1).step(**fresh.losses())
    assert same(retried.weights(), fresh.weights())
    assert float(second.promised_forget_gain) == pytest.approx(float(first.promised_forget_gain) / 4)


def test_planning_promises_what_applying_does():
    task = Task()
    before = task.weights()
    optimizer = HAMU(task.model.parameters(), lr=0.1)
    assessment = optimizer.assess(**task.losses())
    plan = optimizer.plan(assessment)
    assert same(before, task.weights())
    assert plan.row() == optimizer.apply(assessment).row()


def test_stale_assessments_and_double_steps_are_refused():
    task = Task()
    optimizer = HAMU(task.model.parameters(), lr=0.1)
    old = optimizer.assess(**task.losses())
    step = optimizer.apply(old)
    with pytest.raises(ValueError, match="retract"):
        optimizer.apply(old)
    optimizer.assess(**task.losses())
    with pytest.raises(ValueError, match="latest"):
        optimizer.apply(old)
    with pytest.raises(ValueError, match="last applied"):
        optimizer.retract(step)


def test_an_inner_optimizer_gets_the_direction_and_the_rate():
    plain, handed = Task(), Task()
    HAMU(plain.model.parameters(), lr=0.1).step(**plain.losses())
    inner = torch.optim.SGD(handed.model.parameters(), lr=123.0)
    HAMU(handed.model.parameters(), lr=0.1, inner=inner).step(**handed.losses())
    for one, other in zip(plain.weights(), handed.weights(), strict=True):
        torch.testing.assert_close(one, other)
    assert inner.param_groups[0]["lr"] == 0.1


def test_an_inner_optimizers_step_is_retracted_only_from_a_copy():
    for exact in (True, False):
        task = Task()
        before = task.weights()
        inner = torch.optim.AdamW(task.model.parameters())
        optimizer = HAMU(task.model.parameters(), lr=0.1, inner=inner, exact_retract=exact)
        step = optimizer.step(**task.losses())
        assert not same(before, task.weights())
        if exact:
            optimizer.retract(step)
            assert same(before, task.weights())
        else:
            with pytest.raises(ValueError, match="exact_retract"):
                optimizer.retract(step)


def test_weights_in_another_memory_order_move_the_same():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    results = []
    for order in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(180, 2)).double().to(memory_format=order)
        y = torch.tensor([0, 1, 0, 1])
        step = HAMU(model.parameters(), lr=0.1).step(
            retain_loss=lambda m=model, y=y: loss_of(m(x[:2]), y[:2]),
            forget_loss=lambda m=model, y=y: loss_of(m(x[2:]), y[2:]),
        )
        results.append((step.gram, [p.detach().contiguous() for p in model.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for one, other in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, other)


def test_many_steps_forget_and_keep():
    task = Task(torch.float32)
    optimizer = HAMU(task.model.parameters(), lr=0.5, stop_slack=0.05)
    first = optimizer.assess(**task.losses())
    for _ in range(60):
        step = optimizer.step(**task.losses())
        if step.should_stop:
            break
    assert float(task.forget().detach()) > float(first.forget_loss) + 0.3
    assert float(task.retain().detach()) < float(first.retain_loss)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"quota_ratio": 1.5},
        {"variant": "x"},
        {"quota": "half"},
        {"block": "row"},
        {"radius": 0.0},
        {"max_grad_norm": 0.0},
        {"stop_rule": "never"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HAMU([nn.Parameter(torch.zeros(2))], **wrong)


def test_losses_that_reach_no_parameter_are_an_error():
    with pytest.raises(ValueError, match="neither loss"):
        HAMU([nn.Parameter(torch.zeros(2))]).step(
            retain_loss=lambda: torch.ones(()), forget_loss=lambda: torch.ones(())
        )


@pytest.mark.parametrize("options", [{}, {"variant": "u"}, {"block": "model"}, {"quota": "softmax"}, {"radius": 0.1}])
def test_a_step_never_reads_a_number_from_its_device(options):
    """On the meta device there are no numbers: whatever would make the host wait raises here."""
    weights = [
        torch.zeros(40, 50, device="meta", requires_grad=True),
        torch.zeros(7, device="meta", requires_grad=True),
    ]
    optimizer = HAMU(weights, lr=0.1, **options)
    step = optimizer.step(
        retain_loss=lambda: sum((w.sin().sum() for w in weights), torch.zeros((), device="meta")),
        forget_loss=lambda: sum((w.cos().sum() for w in weights), torch.zeros((), device="meta")),
    )
    optimizer.retract(step)
    with pytest.raises(RuntimeError):
        step.row()
