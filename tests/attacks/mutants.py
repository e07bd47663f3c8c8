"""Broken attacks: edits of the source of `advlearn.attacks`, and the property each one breaks."""

from __future__ import annotations

import ast
import inspect
import types
from typing import NamedTuple

from advlearn import attacks


class Edit(NamedTuple):
    """In one function of the module, put `new` in the only place that holds `old`."""

    function: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A broken attack, and the property of the table that has to catch it."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]


def edited(name: str, *edits: Edit) -> types.ModuleType:
    """Compile the source of `advlearn.attacks`, changed, into a module of its own.

    Raises:
        ValueError: an old text is not in its function, or is there more than once, or the code
            stays the same, or is not Python.
    """
    before = source = inspect.getsource(attacks)
    for edit in edits:
        start, end = _lines(source, edit.function)
        lines = source.splitlines(keepends=True)
        body = "".join(lines[start:end])
        if body.count(edit.old) != 1:
            raise ValueError(
                f"{name}: {edit.old!r} is {body.count(edit.old)} times in {edit.function}:\n{body}"
            )
        source = "".join([*lines[:start], body.replace(edit.old, edit.new), *lines[end:]])
    try:
        if edits and ast.dump(ast.parse(source)) == ast.dump(ast.parse(before)):
            raise ValueError(f"{name}: the changed code is what it was before.")
        code = compile(source, f"<attacks.py, {name}>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ValueError(f"{name}: the changed code is not Python: {error}.") from None
    module = types.ModuleType(attacks.__name__)
    exec(code, module.__dict__)
    return module


def _lines(source: str, function: str) -> tuple[int, int]:
    """Find the lines of a function, without its docstring."""
    body = ast.parse(source).body
    *outer, function = function.split(".")
    if outer:  # a method
        (body,) = [n.body for n in body if isinstance(n, ast.ClassDef) and n.name == outer[0]]
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = node.body[1 if ast.get_docstring(node) else 0]
            return first.lineno - 1, node.end_lineno or first.lineno
    raise ValueError(f"attacks.py has no function {function}.")


def mutant(name: str, breaks: str, *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(name, breaks, tuple(Edit(*edit) for edit in edits))


# Parts of attacks.py that several mutants change.
STEP = "    direction = gradient.to(x.dtype).sign()\n"
CLAMP = "return moved if box is None else moved.clamp_(*box)"
HANDED = "hand_out(model, pixels)"
LOGIT_GRADIENT = "logit_gradient(loss, logits, y)"
BORROWED = "    with attack_mode(model):\n"
MOVE = "moved = _step(moved, direction, pace, targeted, None).clamp_(low, high)"
BETTER = "return (fooled & ~lost) | ((fooled == lost) & (damage >= best))"
LEAVE = 'elif keep == "first" and len(left) < len(rows):'

MUTANTS = [
    # The step
    mutant("no sign", "finds_the_optimum_of_a_linear_model", ("_step", ".sign()", "")),
    mutant(
        "down instead of up",
        "does_damage_in_the_ball",
        ("_step", "-eps if targeted else eps", "eps if targeted else -eps"),
    ),
    mutant(
        "the sign of zero is +1",
        "finds_the_optimum_of_a_linear_model",
        ("_step", STEP, STEP + "    direction = direction + (direction == 0).to(x.dtype)\n"),
    ),
    mutant(
        "a small gradient counts as none",
        "takes_a_mean_for_a_loss",
        ("_step", STEP, STEP + "    direction = direction * (gradient.abs() > 1e-3)\n"),
    ),
    mutant(
        "one sign for all pixels",
        "finds_the_optimum_of_a_linear_model",
        (
            "_step",
            STEP,
            "    mean = gradient.flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1))\n"
            "    direction = mean.sign().expand_as(x).clone()\n",
        ),
    ),
    mutant(
        "a step on the sphere of L2",
        "finds_the_optimum_of_a_linear_model",
        ("_step", STEP, "    direction = torch.nn.functional.normalize(gradient, dim=-1)\n"),
    ),
    mutant("not clamped", "keeps_to_the_bounds", ("_step", CLAMP, "return moved")),
    mutant(
        "clamped before the step",
        "keeps_to_the_bounds",
        ("_step", STEP, STEP + "    x = x if box is None else x.clamp(*box)\n"),
        ("_step", CLAMP, "return moved"),
    ),
    mutant(
        "always clamped to [0, 1]",
        "keeps_to_the_bounds",
        ("_step", "moved.clamp_(*box)", "moved.clamp_(0.0, 1.0)"),
    ),
    mutant(
        "clamped although unclipped was asked for",
        "finds_the_optimum_of_a_linear_model",
        ("_step", CLAMP, "return moved.clamp_(*(box or PIXELS))"),
    ),
    mutant("always float32", "keeps_the_precision", ("_step", CLAMP, CLAMP + ".float()")),
    mutant(
        "in place on x",
        "returns_a_new_detached_tensor",
        ("_step", "alpha=alpha)", "alpha=alpha, out=x)"),
    ),
    mutant(
        "eps of the first example for all",
        "takes_eps_for_each_example",
        ("_step", "direction.mul_(step)", "direction.mul_(step.flatten()[0])"),
    ),
    # The gradient
    mutant(
        "the gradient of another example",
        "attacks_each_example_alone",
        ("gradient_at", "return gradient", "return gradient.roll(1, 0)"),
    ),
    mutant(
        "the label of another example",
        "does_damage_in_the_ball",
        ("gradient_at", LOGIT_GRADIENT, "logit_gradient(loss, logits, y.roll(1))"),
    ),
    mutant(
        "labels that the model predicts",
        "finds_the_optimum_of_a_linear_model",
        ("gradient_at", LOGIT_GRADIENT, "logit_gradient(loss, logits, logits.argmax(1))"),
    ),
    mutant(
        "in the precision of the logits",
        "works_under_autocast",
        ("gradient_at", "return gradient", "return gradient.to(logits.dtype)"),
    ),
    mutant(
        "the mean over the batch",
        "is_the_gradient",
        ("gradient_at", LOGIT_GRADIENT, LOGIT_GRADIENT + " / len(x)"),
    ),
    mutant(
        "probabilities for logits",
        "is_the_gradient",
        ("gradient_at", f"logits_of({HANDED})", f"9 * {HANDED}.softmax(1)"),
    ),
    mutant(
        "cross-entropy as PyTorch has it",
        "finds_the_optimum_of_a_linear_model",
        ("_followed", "margin_loss if", "torch.nn.functional.cross_entropy if"),
    ),
    mutant(
        "cross-entropy in float32",
        "finds_the_optimum_of_a_linear_model",
        (
            "_followed",
            "margin_loss if",
            "(lambda z, y: torch.nn.functional.cross_entropy(z.float(), y)) if",
        ),
    ),
    mutant(
        "cross-entropy in half precision",
        "finds_the_optimum_of_a_linear_model",
        (
            "_followed",
            "margin_loss if",
            "(lambda z, y: torch.nn.functional.cross_entropy(z.bfloat16(), y)) if",
        ),
    ),
    mutant(
        "cross-entropy that fades",
        "finds_the_optimum_of_a_linear_model",
        ("_direction", "_followed(loss)", "loss"),
    ),
    mutant(
        "always the default loss",
        "follows_the_loss_it_is_given",
        ("_direction", "_followed(loss)", "margin_loss"),
    ),
    mutant(
        "attached to the graph",
        "returns_a_new_detached_tensor",
        ("gradient_at", "allow_unused=True", "allow_unused=True, create_graph=True"),
        ("gradient_at", "return gradient", "return gradient + 0 * pixels"),
    ),
    mutant(
        "a leaf made of the caller's own x",
        "returns_a_new_detached_tensor",
        ("gradient_at", "(x.clone() if x.is_inference() else x.detach())", "x"),
    ),
    mutant(
        "inference images are not copied",
        "works_where_gradients_are_off",
        ("gradient_at", "(x.clone() if x.is_inference() else x.detach())", "x.detach()"),
    ),
    mutant(
        "logits are not checked",
        "refuses_bad_logits",
        ("gradient_at", "    check_logits(logits, y)\n", ""),
    ),
    mutant(
        "the images themselves are handed out",
        "changes_nobodys_images",
        ("gradient_at", HANDED, "model(pixels)"),
    ),
    mutant(
        "a step in the direction of NaN",
        "never_takes_a_direction_that_is_none",
        ("_direction", "return usable(", "return ("),
    ),
    # The model, borrowed
    mutant(
        "backward into the parameters",
        "gives_the_model_back",
        (
            "gradient_at",
            "    logits = logits_of(",
            "    if isinstance(model, torch.nn.Module):\n"
            "        model.requires_grad_()\n"
            "    logits = logits_of(",
        ),
        (
            "gradient_at",
            "(gradient,) = torch.autograd.grad(logits, pixels, by_logits, allow_unused=True)",
            "logits.backward(by_logits)\n        gradient = pixels.grad",
        ),
    ),
    mutant(
        "in the mode it comes in",
        "attacks_the_model_as_it_is_used",
        ("fgsm", BORROWED, "    with torch.enable_grad():\n"),
    ),
    mutant(
        "left in eval mode",
        "gives_the_model_back",
        ("fgsm", BORROWED, "    getattr(model, 'eval', int)()\n" + BORROWED),
    ),
    mutant(
        "left in training mode",
        "gives_the_model_back",
        ("pgd", "        return best", "    getattr(model, 'train', int)()\n    return best"),
    ),
    mutant(
        "not given back after an error",
        "gives_the_model_back_when_it_raises",
        (
            "pgd",
            BORROWED,
            "    modes = [m.training for m in getattr(model, 'modules', list)()]\n"
            "    getattr(model, 'eval', int)()\n"
            "    result = model(x)\n"
            "    for m, mode in zip(getattr(model, 'modules', list)(), modes):\n"
            "        m.training = mode\n" + BORROWED,
        ),
    ),
    mutant(
        "a hook that stays",
        "gives_the_model_back",
        (
            "rotate",
            BORROWED,
            "    getattr(model, 'register_forward_hook', id)(lambda *_: None)\n" + BORROWED,
        ),
    ),
    mutant(
        "the global seed set",
        "gives_the_model_back",
        ("pgd", BORROWED, "    torch.manual_seed(7)\n" + BORROWED),
    ),
    # What stands around them
    mutant(
        "linear_step ignores `targeted`",
        "does_damage_in_the_ball",
        ("linear_step", "step, targeted, box)", "step, False, box)"),
    ),
    mutant(
        "fgsm ignores `targeted`",
        "does_damage_in_the_ball",
        ("fgsm", "step, targeted, box)", "step, False, box)"),
    ),
    mutant(
        "x itself", "returns_a_new_detached_tensor", ("fgsm", BORROWED, "    return x\n" + BORROWED)
    ),
    mutant(
        "a copy of x",
        "does_damage_in_the_ball",
        ("fgsm", BORROWED, "    return x.detach().clone()\n" + BORROWED),
    ),
    mutant(
        "x itself at eps 0",
        "returns_a_new_detached_tensor",
        (
            "fgsm",
            BORROWED,
            "    if isinstance(eps, float) and eps == 0:\n        return x\n" + BORROWED,
        ),
    ),
    mutant(
        "pixels are not checked",
        "refuses_bad_input_before_any_work",
        ("_check", "    check_images(x, box)\n", ""),
    ),
    mutant(
        "the generator is not checked",
        "refuses_bad_input_before_any_work",
        ("noise", "    _check_generator(generator)\n", ""),
    ),
    mutant(
        "labels are not checked",
        "refuses_bad_input_before_any_work",
        ("_check", "    check_labels(y, x.shape[0])\n", ""),
    ),
    mutant(
        "eps is checked after the work",
        "refuses_bad_input_before_any_work",
        ("fgsm", "    step = check_eps(eps, x, box)\n", ""),
        (
            "fgsm",
            "        return _step(",
            "        step = check_eps(eps, x, box)\n        return _step(",
        ),
    ),
    # The search without a gradient
    mutant(
        "squares that leave the ball",
        "keeps_to_the_ball",
        (
            "SquareSearch.with_square",
            "torch.where(up, high, low)",
            "torch.where(up, high + 0.01, low - 0.01)",
        ),
    ),
    mutant(
        "a search that ignores the bounds",
        "keeps_to_the_bounds",
        ("SquareSearch.__init__", "ball(x, eps, bounds)", "ball(x, eps, None)"),
    ),
    mutant(
        "a search that keeps what is worse",
        "keeps_the_best_that_it_has_seen",
        (
            "SquareSearch.ask",
            "better = fooled | (",
            "better = fooled | torch.ones_like(fooled) | (",
        ),
    ),
    mutant(
        "stripes of one sign for all",
        "tries_squares_at_the_ends_of_the_ball",
        ("SquareSearch.stripes", "channels, 1, width)", "channels, 1, 1)"),
    ),
    mutant(
        "squares of one sign for all",
        "tries_squares_at_the_ends_of_the_ball",
        ("SquareSearch.with_square", "torch.where(up, high, low)", "high"),
    ),
    mutant(
        "squares in one corner",
        "tries_squares_at_the_ends_of_the_ball",
        ("SquareSearch._place", "* (last + 1)", "* 0"),
    ),
    mutant(
        "what is fooled stays in the batch",
        "leaves_alone_what_is_fooled",
        ("SquareSearch.left", "(~self.lost)", "(~self.lost | True)"),
    ),
    mutant(
        "a search that goes the other way",
        "keeps_the_best_that_it_has_seen",
        ("SquareSearch.ask", "-damage if self.targeted", "-damage if not self.targeted"),
    ),
    mutant(
        "one query too few",
        "asks_as_often_as_it_may",
        ("square", "range(2, queries)", "range(3, queries)"),
    ),
    mutant(
        "always from stripes",
        "begins_where_it_is_told",
        ("square", "if start is None else", "if True else"),
    ),
    mutant(
        "a start outside the ball",
        "begins_where_it_is_told",
        ("SquareSearch.inside", "torch.maximum(images, self.low[rows])", "images"),
    ),
    # Projected gradient descent
    mutant(
        "one step too few",
        "takes_the_number_of_steps_it_is_given",
        ("pgd", "    with attack_mode", "    steps -= 1\n    with attack_mode"),
    ),
    mutant(
        "one step too many",
        "takes_the_number_of_steps_it_is_given",
        ("pgd", "    with attack_mode", "    steps += 1\n    with attack_mode"),
    ),
    mutant(
        "the last step is doubled",
        "takes_the_number_of_steps_it_is_given",
        ("pgd", MOVE, MOVE.replace("pace", "pace * (1 + (step == steps - 1))")),
    ),
    mutant(
        "the step size is ignored",
        "takes_the_number_of_steps_it_is_given",
        ("pgd", "if step_size is None", "if True"),
    ),
    mutant(
        "a default step of eps / steps",
        "takes_the_stated_step_by_default",
        ("pgd", "2.5 * radius / steps", "radius / steps"),
    ),
    mutant(
        "always the gradient at the start",
        "follows_the_gradient_from_iterate_to_iterate",
        ("pgd", "_direction(asked, moved, labels, loss)", "_direction(model, start, labels, loss)"),
    ),
    mutant(
        "pgd ignores `targeted`",
        "does_damage_in_the_ball",
        ("pgd", MOVE, MOVE.replace("targeted", "False")),
    ),
    mutant(
        "not projected onto the ball",
        "keeps_to_the_ball",
        ("pgd", MOVE, "moved = _step(moved, direction, pace, targeted, box)"),
    ),
    mutant(
        "projected onto the ball of L2",
        "finds_the_optimum_of_a_linear_model",
        (
            "pgd",
            MOVE,
            MOVE + "\n"
            "                    length = (moved - x[rows]).flatten(1).norm(dim=1)\n"
            "                    scale = (_rows(radius, rows) / length.reshape(-1, 1, 1, 1))\n"
            "                    moved = x[rows] + (moved - x[rows]) * scale.clamp(max=1)",
        ),
    ),
    mutant(
        "projected onto a ball around the last iterate",
        "keeps_to_the_ball",
        (
            "pgd",
            MOVE,
            "moved = moved + ("
            + MOVE.removeprefix("moved = ").removesuffix(".clamp_(low, high)")
            + " - moved).clamp(-_rows(radius, rows), _rows(radius, rows))",
        ),
    ),
    mutant(
        "pgd ignores the bounds", "keeps_to_the_bounds", ("ball", "if box is None:", "if True:")
    ),
    mutant(
        "pgd ignores the upper bound",
        "keeps_to_the_bounds",
        ("ball", ".clamp_(max=box[1])", ""),
    ),
    mutant(
        "a random start outside the bounds",
        "shows_the_model_only_legal_images",
        ("pgd", "moved = moved.clamp(low, high)", "moved = moved + 0"),
    ),
    mutant(
        "half a random start",
        "draws_from_the_whole_ball",
        ("pgd", "noise(start, own, ", "noise(start, own / 2, "),
    ),
    mutant(
        "a random start of signs",
        "draws_from_the_whole_ball",
        ("pgd", "noise(start, own, ", "noise(start, own, kind='sign', "),
    ),
    mutant(
        "no random start",
        "draws_from_the_whole_ball",
        ("pgd", "if random_start else start", "if False else start"),
    ),
    mutant(
        "always a random start",
        "takes_the_number_of_steps_it_is_given",
        ("pgd", "if random_start else start", "if True else start"),
    ),
    mutant(
        "pgd ignores its generator",
        "draws_by_its_generator",
        ("pgd", "generator=generator", "generator=None"),
    ),
    mutant(
        "one start for all restarts",
        "keeps_the_best_attempt",
        (
            "pgd",
            "        for _ in range(restarts):\n",
            "        state = generator.get_state() if generator else None\n"
            "        for _ in range(restarts):\n"
            "            if generator:\n"
            "                generator.set_state(state)\n",
        ),
    ),
    mutant(
        "the last attempt, not the best",
        "keeps_the_best_attempt",
        ("_better", BETTER, "return (fooled & ~lost) | ~lost"),
    ),
    mutant(
        "the first attempt, not the best",
        "keeps_the_best_attempt",
        ("_better", BETTER, "return (fooled & ~lost) | best.isinf()"),
    ),
    mutant(
        "better on average is better for all",
        "keeps_the_best_attempt",
        ("_better", "damage >= best", "damage.mean() >= best.mean()"),
    ),
    mutant(
        "the least damage is kept",
        "keeps_the_best_attempt",
        ("_better", "damage >= best", "damage <= -best"),
    ),
    mutant(
        "the best loss is not kept",
        "keeps_the_best_attempt",
        ("pgd", "best[rows[better]], best_loss[rows[better]] =", "best[rows[better]], _ ="),
    ),
    mutant(
        "success inverted when targeted",
        "keeps_the_best_attempt",
        ("pgd", "== labels) == targeted", "== labels) == False"),
    ),
    mutant(
        "damage not negated when targeted",
        "keeps_the_best_attempt",
        ("pgd", "-damage if targeted else damage", "damage"),
    ),
    mutant(
        "attempts compared by a loss that fades",
        "tells_attempts_apart_where_float32_cannot",
        ("pgd", "_each(_followed(loss), logits", "_each(loss, logits"),
    ),
    mutant(
        "attempts compared in float32",
        "tells_attempts_apart_where_float32_cannot",
        (
            "pgd",
            "torch.promote_types(x.dtype, torch.float)",
            "torch.float",
        ),
    ),
    mutant(
        "fooled examples are attacked again",
        "attacks_again_only_what_resists",
        (
            "pgd",
            "attempt(rows, keep)",
            "attempt(torch.arange(len(x)), keep)",
        ),
    ),
    mutant(
        "all are left alone after one success",
        "attacks_again_only_what_resists",
        (
            "pgd",
            "if len(rows := (~lost).nonzero().squeeze(1)):",
            "rows = (~lost).nonzero().squeeze(1)\n            if not bool(lost.any()):",
        ),
    ),
    mutant(
        "eps of other examples in a restart",
        "keeps_to_the_ball",
        ("pgd", "own, pace = _rows(radius, rows)", "own, pace = _rows(radius, slice(len(rows)))"),
    ),
    mutant(
        "the ball of the first example for all",
        "takes_eps_for_each_example",
        ("pgd", "own, pace = _rows(radius, rows)", "own, pace = _rows(radius, slice(1))"),
    ),
    mutant(
        "the steps of the first example for all",
        "takes_eps_for_each_example",
        ("pgd", "_rows(stride, rows)", "_rows(stride, rows[:1])"),
    ),
    mutant(
        "labels of other examples in a restart",
        "attacks_again_only_what_resists",
        ("pgd", "taken(x, rows), y[rows]", "x[rows], y[: len(rows)]"),
    ),
    # The iterate that is kept
    mutant(
        "the last iterate, whatever came before",
        "keeps_the_iterate_it_is_asked_for",
        ("pgd", 'step == steps or keep == "best"', "step == steps"),
    ),
    mutant(
        "all but the last iterate",
        "keeps_the_iterate_it_is_asked_for",
        ("pgd", 'if step == steps or keep == "best"', 'if keep != "best" or step < steps'),
    ),
    mutant(
        "all but the start",
        "keeps_the_iterate_it_is_asked_for",
        ("pgd", 'keep == "best":', 'keep == "best" and step:'),
    ),
    mutant(
        "a fooling iterate gives way to a higher loss",
        "keeps_the_iterate_it_is_asked_for",
        ("_better", "(fooled == lost) & (damage", "(damage"),
    ),
    mutant(
        "a fooling iterate gives way to any later one",
        "keeps_the_iterate_it_is_asked_for",
        ("_better", BETTER, "return torch.ones_like(fooled)"),
    ),
    mutant(
        "the first fooling iterate for the best",
        "keeps_the_iterate_it_is_asked_for",
        ("_better", "(fooled == lost)", "~(fooled | lost)"),
    ),
    mutant(
        "a fooling iterate counts by its loss alone",
        "keeps_the_iterate_it_is_asked_for",
        ("_better", "fooled & ~lost", "fooled & (damage > best)"),
    ),
    mutant(
        "the iterate after the one that was judged",
        "keeps_the_iterate_it_is_asked_for",
        (
            "pgd",
            "best[rows[better]], best_loss",
            "if step < steps:\n"
            "                        moved = _step(moved, direction, pace, targeted, None)\n"
            "                    best[rows[better]], best_loss",
        ),
    ),
    mutant(
        "the best of another example after the first has left",
        "keeps_the_iterate_it_is_asked_for",
        (
            "pgd",
            "rows, labels, direction = rows[left]",
            "rows, labels, direction = rows[: len(left)]",
        ),
    ),
    mutant(
        "the label of another example after the first has left",
        "keeps_the_iterate_it_is_asked_for",
        ("pgd", "rows[left], labels[left]", "rows[left], labels[: len(left)]"),
    ),
    mutant(
        "the direction of another example after the first has left",
        "keeps_the_iterate_it_is_asked_for",
        ("pgd", "taken(direction, left)", "direction[: len(left)]"),
    ),
    mutant(
        "the ball of another example after the first has left",
        "keeps_the_iterate_it_is_asked_for",
        (
            "pgd",
            "taken(low, left), taken(high, left)",
            "low[: len(left)], high[: len(left)]",
        ),
    ),
    mutant(
        "the iterate of another example after the first has left",
        "keeps_the_iterate_it_is_asked_for",
        ("pgd", "moved = taken(moved, left)", "moved = moved[: len(left)]"),
    ),
    mutant(
        "the step size of another example after the first has left",
        "takes_eps_for_each_example_that_is_left",
        ("pgd", "pace = _rows(pace, left)", "pace = _rows(pace, slice(len(left)))"),
    ),
    mutant(
        "what fools leaves without being kept",
        "keeps_the_iterate_it_is_asked_for",
        ("pgd", "best[rows[fooled]], lost[rows[fooled]] =", "_, lost[rows[fooled]] ="),
    ),
    mutant(
        "all leave with the first one",
        "keeps_the_iterate_it_is_asked_for",
        ("pgd", "if not len(left):", "if True:"),
    ),
    mutant(
        "nothing leaves",
        "shows_a_lost_example_no_more",
        ("pgd", LEAVE, LEAVE.replace("len(left) < len(rows)", "len(left) == 0")),
    ),
    mutant(
        "what is lost leaves although the strongest image was asked for",
        "shows_a_lost_example_no_more",
        ("pgd", LEAVE, "if step < steps and len(left) < len(rows):"),
    ),
    mutant(
        "a pass for the last iterate that nothing needs",
        "shows_a_lost_example_no_more",
        ("pgd", 'elif keep == "last" and restarts == 1', "elif False"),
    ),
    mutant(
        "an empty batch goes on",
        "shows_a_lost_example_no_more",
        (
            "pgd",
            "                        break\n                    rows",
            "                        pass\n                    rows",
        ),
    ),
    mutant(
        "one damage for all examples",
        "tells_examples_apart_by_a_mean",
        ("_each", "if value.shape == y.shape", "value = value.expand(y.shape)\n        if True"),
    ),
    mutant(
        "a lucky draw ends the attack",
        "is_not_ended_by_a_lucky_draw",
        ("pgd", "and not looks_at_each(asked, moved)", "and False"),
    ),
    # Noise
    mutant("noise of one sign", "draws_from_the_whole_ball", ("noise", "2 * drawn - 1", "drawn")),
    mutant(
        "half of the noise", "draws_from_the_whole_ball", ("noise", "2 * drawn - 1", "drawn - 0.5")
    ),
    mutant("normal noise", "keeps_to_the_ball", ("noise", "torch.rand(", "torch.randn(")),
    mutant(
        "signs of one sign",
        "draws_fair_signs",
        ("noise", "direction < 0, -1.0", "direction < 0, 1.0"),
    ),
    mutant(
        "kinds of noise swapped",
        "draws_fair_signs",
        ("noise", 'kind == "sign"', 'kind == "uniform"'),
    ),
    mutant(
        "one noise for all examples",
        "draws_from_the_whole_ball",
        ("noise", "torch.rand(x.shape,", "torch.rand(x.shape[1:],"),
    ),
    mutant(
        "noise ignores its generator",
        "draws_by_its_generator",
        ("noise", "generator=generator", "generator=None"),
    ),
    mutant("noise ignores the bounds", "keeps_to_the_bounds", ("noise", CLAMP, "return moved")),
    mutant(
        "noise that tracks x",
        "returns_a_new_detached_tensor",
        ("noise", "x.detach() + step", "x + step"),
    ),
    mutant("noise in float32", "keeps_the_precision", ("noise", "dtype=x.dtype, ", "")),
    # Turning
    mutant(
        "sine and cosine swapped",
        "turns_by_the_angle_towards_the_gradient",
        (
            "rotate",
            "turn.cos()) * along + float(turn.sin()",
            "turn.sin()) * along + float(turn.cos()",
        ),
    ),
    mutant(
        "half of the angle",
        "turns_by_the_angle_towards_the_gradient",
        ("rotate", "    with attack_mode", "    turn = turn / 2\n    with attack_mode"),
    ),
    mutant(
        "away from the gradient",
        "does_damage_by_an_angle",
        ("rotate", "float(turn.sin())", "-float(turn.sin())"),
    ),
    mutant(
        "in a plane without x",
        "turns_by_the_angle_towards_the_gradient",
        ("rotate", "    along = flat /", "    along = flat.roll(1, 1) /"),
    ),
    mutant(
        "towards the gradient itself, not its orthogonal part",
        "turns_by_the_angle_towards_the_gradient",
        (
            "rotate",
            "gradient - (gradient * along).sum(1, keepdim=True) * along",
            "gradient",
        ),
        ("rotate", "across - (across * along).sum(1, keepdim=True) * along", "across + 0"),
    ),
    mutant(
        "towards the sign of the gradient",
        "turns_by_the_angle_towards_the_gradient",
        ("rotate", "[0].flatten(1)", "[0].flatten(1).sign()"),
    ),
    mutant(
        "what is left along x is not taken away",
        "keeps_the_length_where_little_is_left_to_turn_to",
        ("rotate", "across - (across * along).sum(1, keepdim=True) * along", "across + 0"),
    ),
    mutant(
        "towards rounding errors",
        "keeps_the_length_where_little_is_left_to_turn_to",
        ("rotate", "usable & (length > 0)", "length > 0"),
    ),
    mutant(
        "one length for the whole batch",
        "attacks_each_example_alone",
        (
            "rotate",
            "length = flat.norm(dim=1, keepdim=True)",
            "length = flat.norm().expand(len(x), 1)",
        ),
    ),
    mutant(
        "the gradient is squared as it is",
        "turns_however_small_the_gradient",
        ("rotate", "    gradient = gradient / gradient.abs()", "    _ = gradient / gradient.abs()"),
    ),
    mutant(
        "rotate ignores the bounds",
        "keeps_to_the_bounds",
        ("rotate", "return turned if box is None else turned.clamp_(*box)", "return turned"),
    ),
]
