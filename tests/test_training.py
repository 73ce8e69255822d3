"""Training: which images a step sees, what a step may change, and the parts that a step is made of."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan.data import scale
from pygan.draws import Draws
from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.dropout import Dropout
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.schedule import Schedule
from pygan.stacks.settings import own_settings
from pygan.stacks.torch_stack import TorchStack
from pygan.state import widen
from pygan.training import picture_latent, total_steps, train


def numbered_images(count: int) -> np.ndarray:
    """Images that tell which they are."""
    assert count <= 256
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 28, 28))


# --- the schedule ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 60), batch=st.integers(2, 20), epoch=st.integers(0, 3), seed=st.integers(0, 2**63 - 1))
def test_an_epoch_shows_each_image_once_and_keeps_the_partial_last_batch(
    count: int, batch: int, epoch: int, seed: int
) -> None:
    if count % batch == 1:
        count += 1 if batch > 2 else -1
    schedule = Schedule(numbered_images(count), batch, Draws(seed))
    steps = range(epoch * schedule.steps_per_epoch, (epoch + 1) * schedule.steps_per_epoch)
    batches = [schedule.indices(step) for step in steps]
    assert [len(one) for one in batches] == [batch] * (count // batch) + [count % batch] * (count % batch > 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(np.concatenate([Schedule(numbered_images(20), 8, Draws(seed)).indices(step) for step in epoch]).tolist())
        for seed in (0, 1)
        for epoch in (range(3), range(3, 6))
    }
    assert len(orders) == 4
    assert tuple(range(20)) not in orders


def test_a_schedule_may_be_asked_in_any_order() -> None:
    forward, back = (Schedule(numbered_images(20), 8, Draws(0)) for _ in range(2))
    expected = [forward.indices(step).tolist() for step in range(9)]
    assert [back.indices(step).tolist() for step in reversed(range(9))] == expected[::-1]


def test_a_batch_is_the_scaled_images_of_its_indices() -> None:
    schedule = Schedule(numbered_images(22), 8, Draws(3))
    batch = schedule[2]
    assert (batch.shape, batch.dtype) == ((6, 1, 28, 28), np.float32)
    assert np.array_equal(batch, scale(numbered_images(22)[schedule.indices(2)]))
    assert batch[:, 0, 0, 0].tolist() == [
        float(np.float32(2) * (np.float32(i) / np.float32(255)) - np.float32(1)) for i in schedule.indices(2)
    ]


@pytest.mark.parametrize(("count", "batch"), [(9, 8), (1, 8), (17, 4)])
def test_a_last_batch_of_one_image_is_kept(count: int, batch: int) -> None:
    """This recipe's BatchNorm sees only noise, which is always ``batch`` wide."""
    schedule = Schedule(numbered_images(count), batch, Draws(0))
    assert len(schedule[schedule.steps_per_epoch - 1]) == 1


@pytest.mark.parametrize(("images", "steps"), [(60_000, 25 * 469), (128, 25), (130, 50)])
def test_the_whole_training_is_the_published_number_of_steps(images: int, steps: int, digits) -> None:
    from dataclasses import replace

    assert total_steps(FluxTutorialConfig(), replace(digits, images=np.empty((images, 0, 0)))) == steps


# --- the loop ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "every", "expected"), [(5, 2, [0, 2, 4, 5]), (4, 2, [0, 2, 4]), (3, 1, [0, 1, 2, 3]), (3, 1000, [0, 3])]
)
def test_pictures_come_at_the_articles_steps_and_once_more_at_the_end(
    narrow, digits, steps: int, every: int, expected: list[int]
) -> None:
    records = list(train(TorchStack(narrow), digits, steps, picture_every=every))
    assert [record.step for record in records if record.pictures] == expected
    assert [record.step for record in records if record.loss] == list(range(steps))
    assert records[-1].step == steps
    assert not records[-1].loss


def test_pictures_of_a_step_are_drawn_after_it_from_the_fixed_latent_vectors(narrow, digits) -> None:
    stack = TorchStack(narrow)
    records = list(train(stack, digits, 2, picture_every=1))
    last = records[2].pictures["values"]
    assert (last.shape, last.dtype) == ((4, 1, 28, 28), np.float32)
    assert np.array_equal(records[1].pictures["values"], last)
    assert not np.array_equal(records[0].pictures["values"], last)
    latent = picture_latent(narrow, 0)
    assert np.array_equal(latent, Draws(narrow.seed).normal("fixed_latent", (4, 5)))
    assert np.array_equal(stack.generate(latent), last)
    assert np.array_equal(stack.generate(latent[:1]), last[:1]), "each latent vector is drawn alone"
    assert len({picture.tobytes() for picture in last}) == 4, "each latent vector has its own picture"


def test_a_run_without_pictures_has_a_record_per_step_and_nothing_more(narrow, digits) -> None:
    records = list(train(TorchStack(narrow), digits, 3))
    assert [(record.step, bool(record.pictures)) for record in records] == [(0, False), (1, False), (2, False)]
    assert sorted(records[0].loss) == ["discriminator", "generator"]
    assert not (records[0].logits or records[0].gradient or records[0].pattern or records[0].state or records[0].sketch)


def test_each_step_has_its_own_batch_and_draws(narrow, digits, same_arrays) -> None:
    looped, by_hand = TorchStack(narrow.replace(seed=6)), TorchStack(narrow.replace(seed=6))
    list(train(looped, digits, 4))
    schedule = Schedule(digits.images, 8, Draws(6))
    for step in range(4):
        by_hand.step(schedule[step], Draws(6, step))
    same_arrays(by_hand.state(), looped.state())


def test_drawing_pictures_does_not_change_the_training(narrow, digits, same_arrays) -> None:
    plain, drawn = TorchStack(narrow), TorchStack(narrow)
    list(train(plain, digits, 4))
    list(train(drawn, digits, 4, picture_every=1))
    same_arrays(drawn.state(), plain.state())


def test_a_continued_run_is_the_run_that_never_stopped(narrow, digits, same_arrays) -> None:
    whole, parts = TorchStack(narrow), TorchStack(narrow)
    list(train(whole, digits, 5))
    list(train(parts, digits, 2))
    assert [record.step for record in train(parts, digits, 3, first=2)] == [2, 3, 4]
    same_arrays(parts.state(), whole.state())


# --- what a step may change --------------------------------------------------------------------------------------


def changed(stack: TorchStack, batch: np.ndarray, step: int = 0) -> dict[str, bool]:
    before = stack.state()
    stack.step(batch, Draws(0, step))
    return {key: not np.array_equal(value, before[key]) for key, value in stack.state().items()}


def of(network: str, moved: dict[str, bool]) -> dict[str, bool]:
    return {key: value for key, value in moved.items() if f"/{network}" in key}


def test_as_printed_never_changes_the_generator_its_buffers_or_its_moments(narrow, a_batch: np.ndarray) -> None:
    stack = TorchStack(narrow.replace(semantics="as_printed"))
    for step in range(3):
        moved = changed(stack, a_batch, step)
        assert len(of("generator", moved)) == 10 * 3 + 6 + 1
        assert not any(of("generator", moved).values())
        assert all(of("discriminator", moved).values())


def test_fixed_changes_every_tensor_of_both_networks(narrow, a_batch: np.ndarray) -> None:
    moved = changed(TorchStack(narrow), a_batch)
    assert all(moved.values()), [key for key, value in moved.items() if not value]


def running_stats_after(stack: TorchStack, forwards: int, noise: np.ndarray) -> dict[str, np.ndarray]:
    """Buffers after so many train-mode forwards of a copy of the generator on the same noise."""
    other = TorchStack(stack.config)
    other.load_state(stack.state())
    generator = other.networks["generator"].train()
    with torch.no_grad():
        for _ in range(forwards):
            generator(torch.from_numpy(noise))
    return {key: value for key, value in other.state().items() if key.startswith("buffer/")}


def test_the_generators_running_statistics_move_exactly_once_a_step(narrow, a_batch: np.ndarray) -> None:
    stack = TorchStack(narrow)
    noise = Draws(0, 0).normal("noise", (8, 5))
    with own_settings(stack.threads):
        once, twice = (running_stats_after(stack, count, noise) for count in (1, 2))
    stack.step(a_batch, Draws(0, 0))
    after = stack.state()
    for key, value in once.items():
        assert np.array_equal(after[key], value), key
        assert not np.array_equal(twice[key], value), key


def test_a_partial_batch_still_makes_a_whole_batch_of_fakes(narrow, a_batch: np.ndarray) -> None:
    record = TorchStack(narrow).step(a_batch[:6], Draws(0, 0), ("logits",))
    assert {name: value.shape for name, value in record.logits.items()} == {
        "real": (6, 1),
        "fake": (8, 1),
        "generator": (8, 1),
    }


# --- numbers -----------------------------------------------------------------------------------------------------


def test_native_randomness_runs_repeats_by_seed_and_differs_between_seeds(narrow, digits) -> None:
    def run(**changes: object) -> list[float]:
        records = train(TorchStack(narrow.replace(randomness="native", **changes)), digits, 3)
        return [float(value) for record in records for value in record.loss.values()]

    keyed = [float(v) for record in train(TorchStack(narrow), digits, 3) for v in record.loss.values()]
    assert np.isfinite(run()).all()
    assert run() == run()
    assert not set(run()) & set(run(seed=1))
    assert run() != keyed


def test_the_float64_run_starts_from_the_widened_weights_of_the_float32_run(narrow, a_batch, same_arrays) -> None:
    narrow_stack, wide_stack = TorchStack(narrow), TorchStack(narrow.replace(dtype="float64"))
    same_arrays(wide_stack.state(), widen(narrow_stack.state(), "float64"))
    first, second = (stack.step(a_batch, Draws(0, 0)) for stack in (narrow_stack, wide_stack))
    for name, value in first.loss.items():
        assert (value.dtype, second.loss[name].dtype) == (np.float32, np.float64)
        assert abs(float(value) - float(second.loss[name])) < 1e-5


def test_initial_weights_follow_the_published_laws() -> None:
    state = TorchStack(FluxTutorialConfig(width=8, latent_dim=50, threads=1)).state()
    dense = state["parameter/generator.dense.weight"]
    limit = np.sqrt(6 / sum(dense.shape))
    assert 0.999 * limit < np.abs(dense).max() <= limit
    assert abs(dense.std() / (limit / np.sqrt(3)) - 1) < 0.01
    conv = state["parameter/generator.conv1.weight"]
    assert abs(conv.std() / 0.02 - 1) < 0.02
    assert abs(conv.mean()) < 4 * 0.02 / np.sqrt(conv.size)
    norm_weights = [f"parameter/generator.norm{i}.weight" for i in (1, 2, 3)]
    ones = [*norm_weights, *(key for key in state if key.endswith("running_var"))]
    assert len(ones) == 6
    assert all((state[key] == 1).all() for key in ones)
    zeros = [key for key in state if key.endswith((".bias", "running_mean")) or key.startswith("exp_avg")]
    assert all((state[key] == 0).all() for key in zeros)


def gradients(count: int, shape: tuple[int, ...] = (4, 3), dtype: str = "float32") -> list[np.ndarray]:
    random = np.random.default_rng(7)
    return [(random.standard_normal(shape) * 10.0 ** random.integers(-6, 2, shape)).astype(dtype) for _ in range(count)]


def run_adam(make: Callable[..., torch.optim.Optimizer], start: np.ndarray, steps: list[np.ndarray]) -> np.ndarray:
    x = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = make([x])
    for gradient in steps:
        x.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
    return x.detach().numpy()


LR, BETAS, EPS = 2e-4, (0.9, 0.999), 1e-8


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-5), ("float64", 1e-11)])
def test_adam_stays_close_to_torchs_own_over_10_steps(dtype: str, bound: float) -> None:
    """The bound is relative to the way moved. In Float32 1 - beta2 is 1.3e-5 off 0.001, which torch keeps in double."""
    start, *steps = gradients(11, dtype=dtype)
    ours = run_adam(lambda p: OptimisersAdam(p, LR, BETAS, EPS), start, steps)
    theirs = run_adam(lambda p: torch.optim.Adam(p, LR, BETAS, EPS), start, steps)
    assert np.abs(ours - start).max() > LR
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - start) < bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adam_is_the_formula_of_optimisers_jl_bit_for_bit(dtype: str) -> None:
    real = np.dtype(dtype).type
    lr, eps, (b1, b2) = real(LR), real(EPS), map(real, BETAS)
    start, *steps = gradients(11, dtype=dtype)
    x, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    p1, p2 = b1, b2
    for g in steps:
        m = b1 * m + (real(1) - b1) * g
        v = b2 * v + (real(1) - b2) * (g * g)
        x = x - m / (real(1) - p1) / (np.sqrt(v / (real(1) - p2)) + eps) * lr
        p1, p2 = p1 * b1, p2 * b2
    assert x.dtype == dtype
    ours = run_adam(lambda p: OptimisersAdam(p, float(lr), (float(b1), float(b2)), float(eps)), start, steps)
    assert ours.tobytes() == x.tobytes()


def test_adam_leaves_a_parameter_without_a_gradient_alone() -> None:
    x, y = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimiser = OptimisersAdam([x, y], LR, BETAS, EPS)
    x.grad = torch.ones(2)
    optimiser.step()
    assert not torch.equal(x, torch.ones(2))
    assert torch.equal(y, torch.ones(2))
    assert torch.equal(optimiser.state[y]["beta_power"], torch.tensor(BETAS))


# --- dropout -----------------------------------------------------------------------------------------------------


def keyed_dropout() -> Dropout:
    layer = Dropout(0.3, FluxTutorialConfig().dropout_scale)
    layer.source = lambda shape, rate: torch.from_numpy(Draws(1).keep("mask", shape, rate)).float()
    return layer


def test_dropout_is_the_identity_in_eval_mode() -> None:
    x = torch.randn(50, 40)
    for layer in (keyed_dropout().eval(), Dropout(0.3, 99.0).eval()):
        assert torch.equal(layer(x), x)


def test_dropout_scales_what_its_source_keeps_and_zeroes_the_rest() -> None:
    kept = Draws(1).keep("mask", (100, 100), 0.3)
    y = keyed_dropout().train()(torch.full((100, 100), 3.0)).numpy()
    assert np.array_equal(y, np.where(kept, np.float32(3) * np.float32(1 / 0.7), np.float32(0)))
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / kept.size)


def test_dropout_without_a_source_is_torchs_own() -> None:
    x = torch.rand(100, 100)
    results = []
    for layer in (Dropout(0.3, 99.0), torch.nn.Dropout(0.3)):
        torch.manual_seed(5)
        results.append(layer.train()(x))
    assert torch.equal(*results)
    assert abs((results[0] > 0).float().mean().item() - 0.7) < 0.02
