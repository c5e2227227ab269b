"""The sentences for what goes wrong in general. Those for known misconceptions stand with the exercises."""

from __future__ import annotations

import builtins
import re
from collections.abc import Sequence

from autograder.compare import Difference, difference, kind_of, same
from autograder.messages import Tree
from autograder.packs import Case, ExercisePack
from autograder.scenarios.call import tensors_of


def not_run(name: str) -> str:
    """No cell that binds the name has been run."""
    return f"`{name}` is not defined yet: run the cell with your answer first, then check again."


def definition(pack: ExercisePack, said: Tree, elsewhere: frozenset[str]) -> str:
    """What is wrong with the thing that the answer cell made, or ""."""
    name, kind = pack.name, said.get("kind")
    wanted = f"`def {name}{pack.signature}:`" if pack.kind == "function" else f"`class {name}{_base(pack)}:`"
    if kind in (pack.kind, "stand-in"):
        return ""
    match kind:
        case "missing":
            return f"Your answer cell ran, but did not bind `{name}`: write {wanted} in it."
        case "raised" if said["type"] in ("SyntaxError", "IndentationError", "TabError"):
            return f"Line {said['line']} of your answer is not Python yet: {said['message']}."
        case "raised":
            return f"Your answer cell stopped before `{name}` was complete. {_error(said, elsewhere)}"
        case "lambda":
            return f"`{name}` is a lambda: write {wanted}, so that errors can be shown line by line."
        case "partial":
            return f"`{name}` is a partial of another function: write it yourself, {wanted}."
        case "library":
            return f"`{name}` is only another name for `{said['type']}`: write it yourself, {wanted}."
        case "class":
            return f"`{name}` is a class, asked is a function: {wanted}."
        case "function":
            return f"`{name}` is a function, asked is a class: {wanted}."
        case "other" if "cache" in said["type"]:
            return (
                f"`{name}` is decorated to keep its results, and not everything it is called with can be looked up (a "
                f"list cannot). Write {wanted}, and decorate a function inside it, of plain numbers."
            )
        case "other":
            return f"`{name}` is a `{said['type']}`, asked is a {pack.kind}: {wanted}."
    return "Your answer could not be tried: the run ended before it began. Check again."


def whole(pack: ExercisePack, observed: Sequence[Tree], end: Tree, elsewhere: frozenset[str]) -> str:
    """What is wrong with the answer as a whole, whatever the cases, or ""."""
    if stopped := end.get("stopped"):
        where = f": it was in line {stopped['line']}, `{stopped['text']}`" if stopped.get("line") else ""
        if stopped.get("time_up"):
            again = "a loop that never stops, or the same work done over and over"
            return f"Your answer did not come to an end in the time allowed{where}. Is there {again}?"
        return f"You stopped the check{where}. Nothing is lost: check again when you like."
    for seen in observed:
        match seen:
            case {"forbidden": function, "line": line}:
                exercise = "which is what this exercise asks you to write"
                return f"Line {line} calls torch's `{function}`, {exercise}: do without it."
            case {"not accepted": why, "what": ""}:
                return f"`{pack.name}` must take `{pack.signature}`, but yours takes {why}."
    if observed and all(isinstance(seen, dict) and "unwritten" in seen for seen in observed):
        return f"`{pack.name}` is not written yet: put your code in place of `raise NotImplementedError`."
    errors = [seen["raised"] for seen in observed if isinstance(seen, dict) and "raised" in seen]
    if errors and len(errors) == len(observed):
        first = errors[0]
        if _refuses_the_call(pack.name, first):
            return f"`{pack.name}` must take `{pack.signature}`, yours cannot be called so: {first['message']}."
        if first["type"] == "NameError" and all(error.get("name") == first.get("name") for error in errors):
            return _error(first, elsewhere)
    return ""


def _refuses_the_call(name: str, problem: Tree) -> bool:
    """Could the answer not be called as the case calls it? No line of its own had its turn then."""
    call = re.compile(rf"(^|[\s.]){re.escape(name)}(\.__init__|\.forward)?\(\) ")
    return problem["type"] == "TypeError" and not problem.get("line") and bool(call.search(problem["message"]))


def failure(observation: Tree, elsewhere: frozenset[str]) -> str:
    """Why a case gave no result."""
    if "unwritten" in observation:
        return f"Line {observation['unwritten']} still says `raise NotImplementedError`: this path is not written yet."
    if "not accepted" in observation:
        return f"`{observation['what']}` cannot be called as it should be; yours takes {observation['not accepted']}."
    if "raised" in observation:
        return _error(observation["raised"], elsewhere)
    return "This case gave no result."


def _base(pack: ExercisePack) -> str:
    """What a class is to inherit from."""
    modules = any(case.scenario in ("module", "assembled") for case in pack.cases)
    return "(nn.Module)" if modules else ""


def _error(problem: Tree, elsewhere: frozenset[str]) -> str:
    if problem["type"] == "NameError" and (name := problem.get("name")):
        if name in elsewhere:
            return f"`{name}` is defined in another cell: move it here. Your answer is judged on its own."
        if not hasattr(builtins, name):
            return f"Line {problem['line']} uses `{name}`, which is defined nowhere: `{problem['text']}`."
    where = f"Line {problem['line']}, `{problem['text']}`," if problem.get("line") else "Your answer"
    first_line = next(iter(problem["message"].strip().splitlines()), "")
    said = f"{where} raised {problem['type']}: {first_line}"
    if "before Module.__init__() call" in first_line:
        return f"{said}. Write `super().__init__()` as the first line of `__init__`."
    if problem.get("operation"):
        shapes = " and ".join(str(tuple(shape)) for shape in problem["shapes"])
        said += f" (in `{problem['operation']}` of {shapes})" if shapes else f" (in `{problem['operation']}`)"
    return said.rstrip(".") + "."


def misbuilt(expected: Tree, got: Tree) -> Difference | None:
    """For a module: what is wrong with what the constructor made."""
    if "parameters" not in expected:
        return None
    if got.get("kind") != "module":
        return Difference("The object is no `nn.Module`: inherit from it, and call `super().__init__()` first.")
    wanted, have = expected["parameters"], got["parameters"]
    missing, extra = [n for n in wanted if n not in have], [n for n in have if n not in wanted]
    absent, added = (", ".join(f"`{name}`" for name in names) for names in (missing, extra))
    if missing and extra:
        return Difference(f"The parameters have other names: missing are {absent}; not asked for are {added}.")
    if missing or extra:
        return Difference(
            f"Of the parameters there is no {absent}." if missing else f"No parameter {added} is asked for."
        )
    for name in wanted:
        if wanted[name] != have[name]:
            return Difference(f"The parameter `{name}` has shape {tuple(have[name])}, expected {tuple(wanted[name])}.")
    for name, value in expected["attributes"].items():
        if got["attributes"][name] is None:
            return Difference(f"The attribute `{name}` is missing: later lessons read it.")
        if got["attributes"][name] != value:
            return Difference(
                f"The attribute `{name}` is {got['attributes'][name]!r}, expected {value!r}: later lessons read it."
            )
    if more := [name for name in got.get("saved", []) if name not in expected.get("saved", [])]:
        names = ", ".join(f"`{name}`" for name in more)
        return Difference(f"The state dict holds {names} too, which is no parameter: it should not be saved.")
    if got.get("plain"):
        names = ", ".join(f"`{name}`" for name in got["plain"])
        return Difference(f"{names} is kept as a plain tensor, which stays behind when the model moves to a GPU.")
    for name, wanted_values in expected.get("initial", {}).items():
        if (have_values := got["initial"][name]) != wanted_values:
            return Difference(_initial(name, wanted_values, have_values))
    return None


def _initial(name: str, wanted: Tree, have: Tree) -> str:
    """How the first values of a parameter differ."""
    if rows := [row for row in wanted["rows of zeros"] if row not in have["rows of zeros"]]:
        return f"Row {rows[0]} of `{name}` is zero when it is made right; in yours it is not."
    if wanted["mean"] != have["mean"]:
        return f"The first values of `{name}` have the mean {have['mean']}, expected {wanted['mean']}."
    return f"The first values of `{name}` have another standard deviation than asked."


def unanswered(case: Case, observation: Tree) -> bool:
    """Is this a case that asks for a name, and none has been given yet?"""
    return case.scenario == "sealed" and observation.get("value") == {"unlisted": None}


def unsealed(case: Case, got: Tree) -> str:
    """For a name out of a list, of which the right one is not shown: why this one is wrong."""
    names = ", ".join(f'"{name}"' for name in case.inputs["names"])
    match got:
        case {"unlisted": None}:
            return "There is no answer to this one yet: give one of the names on the list."
        case {"unlisted": str(given)}:
            return f"{given!r} is not on the list. The names are {names}."
        case {"unlisted": given}:
            return f"The answer is {kind_of(given)}, asked is a name: one of {names}."
    return "Not this one."


def misread(expected: Tree, got: Tree) -> Difference | None:
    """For training steps: what the model was given that it should not have been."""
    for step, (e, g) in enumerate(zip(expected.get("reads", []), got.get("reads", []), strict=False), start=1):
        if found := difference(e["inputs"], g.get("inputs"), f"What the decoder reads in step {step}", returned=False):
            sentence = f"{found.sentence} (0 stands where the target is padding.)"
            return Difference(sentence, found.got, found.expected, found.shown)
        what = "What is visible of `source`"
        if found := difference(e["visible"], g.get("visible"), what, "(batch, source)", returned=False):
            sentence = f"The model may attend to other source tokens than asked, in step {step}. {found.sentence}"
            return Difference(sentence, found.got, found.expected, found.shown)
        if e.get("training") and not g.get("training", True):
            return Difference(
                f"In step {step} the model runs in evaluation mode, with its dropout off, though it came in training "
                "mode: leave `train()` and `eval()` to the caller."
            )
    return None


def miscounted(when: str, expected: Tree, got: Tree) -> str:
    """For a cache whose ``length`` is wrong."""
    if isinstance(got, int) and not isinstance(got, bool):
        return f"`length` is {got} {when}, expected {expected}: it counts the tokens of a row."
    if got is None:
        return f"`length` is missing or None {when}, expected {expected}."
    return f"`length` is {kind_of(got)} {when}; it is to be a Python int, as attribute or property: {expected}."


def mislaid(number: int, expected: Tree, got: Tree) -> str:
    """For a call with a cache: what it left behind otherwise than asked, or ""."""
    if not same(expected["length"], got["length"]):
        return miscounted(f"after call {number}", expected["length"], got["length"])
    if expected.get("appended") != got.get("appended"):
        asked, had = expected["appended"], got["appended"]
        if len(asked) != len(had):
            return f"Call {number} appended to the cache {len(had)} times, expected once, for the new tokens."
        shapes = [" and ".join(str(tuple(shape)) for shape in each[0]) for each in (had, asked)]
        return f"Call {number} appended keys and values of shapes {shapes[0]}, expected {shapes[1]}."
    for name, rows in expected.get("extra", {}).items():
        if rows != (more := got["extra"][name]):
            return (
                f"The result is right, but in call {number} `attention.{name}` was given {more} rows more than there "
                "are new tokens: each of these is projected once, and what is in the cache not again."
            )
    return ""


def misassembled(expected: Tree, got: Tree) -> Difference | None:
    """For a model made of parts: which part was called too often or never, and which mask reached it."""
    for name, times in expected.get("called", {}).items():
        if (have := got.get("called", {}).get(name)) != times:
            return Difference(f"`{name}` was called {have} times, expected {times}.")
    for name, mask in expected.get("masks", {}).items():
        module, _, parameter = name.partition(".")
        what = f"The `{parameter}` that reached the {module}, broadcast,"
        if found := difference(mask, got["masks"].get(name), what, "(batch, heads, queries, keys)", returned=False):
            return found
    return None


def misdrawn(expected: Tree, got: Tree) -> Difference | None:
    """For draws: which token came too often or too seldom (see `autograder.scenarios.drawing`)."""
    if "same_again" not in expected or same(expected["result"], got.get("result")):
        return None
    asked, shares = expected["result"].double(), got["result"].double()  # (rows, V)
    row, token = divmod(int((shares - asked).abs().argmax()), asked.size(1))
    often = "too often" if shares[row, token] > asked[row, token] else "too seldom"
    return Difference(
        f"In row {row}, token {token} was drawn {often}: its share of the draws is {shares[row, token]:.3f}, and its "
        f"probability {asked[row, token]:.3f}."
    )


def side_effects(case: Case, expected: Tree, got: Tree) -> Difference:
    """For a right result: what else was not as asked."""
    if "dropped" in expected:
        return _misdropped(expected["dropped"], got.get("dropped"))
    if places := [place for place in got.get("changed", []) if place not in expected.get("changed", [])]:
        names = ", ".join(f"`{_argument(case, place)}`" for place in places)
        return Difference(f"The result is right, but the call changed its input {names} in place: work on a copy.")
    for name, e, g in zip(
        _leaves(case, expected), expected.get("gradients", []), got.get("gradients", []), strict=False
    ):
        what = f"The gradient at `{name}`"
        if e is not None and g is None:
            cutters = "`.detach()`, `.item()`, `.data`, a new tensor"
            return Difference(f"{what} is missing: something on the way ({cutters}) cut it.")
        if found := difference(e, g, what):
            sentence = f"The result is right, its gradient is not. {found.sentence}"
            return Difference(sentence, found.got, found.expected, found.shown)
    if "kept" in expected and not same(expected["kept"], got["kept"]):
        return Difference(
            "The results are right, but what an earlier call had given was changed by a later one: whoever still has "
            "it now reads something else."
        )
    if found := difference(expected.get("again"), got.get("again"), "The result of a second call"):
        sentence = (
            f"The first call is right, a second one is not: nothing may be kept from call to call. {found.sentence}"
        )
        return Difference(sentence, found.got, found.expected, found.shown)
    for key, what in (("backward", "`backward()`"), ("stepped", "`optimizer.step()`")):
        if (mine := got.get(key)) != (asked := expected.get(key)):
            step = next((at for at, (m, a) in enumerate(zip(mine, asked, strict=False)) if m != a), 0)
            return Difference(f"The losses are right, but {_ran(key, what, mine[step], step + 1, asked[step])}")
    for step, (e, g) in enumerate(zip(expected.get("at_step", []), got.get("at_step", []), strict=False), start=1):
        for name, gradient in e.items():
            if gradient is not None and g.get(name) is None:
                return Difference(
                    f"At `optimizer.step()` {step} no gradient had reached `{name}`. `loss.backward()` comes before "
                    "it, nothing is cleared in between, and nothing on the way to the loss is cut off (`.detach()`)."
                )
            if found := difference(gradient, g.get(name), f"The gradient of `{name}` at `optimizer.step()` {step}"):
                return found
    for name, weights in expected.get("weights", {}).items():
        if found := difference(weights, got["weights"][name], f"`{name}` after the last step"):
            sentence = f"The losses are right, the weights are not. {found.sentence}"
            return Difference(sentence, found.got, found.expected, found.shown)
    if got.get("learnable") and not expected.get("learnable"):
        return Difference(
            "The numbers are right, but the result is learnable (an `nn.Parameter`, or `requires_grad=True`), and "
            "nothing that came in is: return a plain tensor."
        )
    if expected.get("training") != got.get("training"):
        return Difference("The model is no longer in the mode it was in: leave `train()` and `eval()` to the caller.")
    for count, asked in (("encoded", "encoder"), ("decoded", "decoder")):
        if expected.get(count) != got.get(count):
            return Difference(
                f"The result is right, but the {asked} ran {got[count]} times, and {expected[count]} would do."
            )
    if again := got.get("asked_again"):
        return Difference(
            f"The result is right, but {again} calls of `step` were about prefixes of a length that had been asked for "
            "before: hand it all prefixes of one length at once."
        )
    for key, sentence in _DRAWS.items():
        if expected.get(key) != got.get(key):
            return Difference(f"The shares are right, but {sentence}")
    if expected.get("calls") != got.get("calls"):
        return Difference(_calls(case.inputs["record"]["as"], expected["calls"], got["calls"]))
    return Difference("The result is right, but not what goes with it.")


def _ran(key: str, what: str, times: int, step: int, expected: int) -> str:
    """How often something ran in a step."""
    if times:
        return f"in step {step} {what} ran {times} times, expected {expected}."
    if key == "backward":
        return (
            f"in step {step} no gradient came back to the model: {what} was not called, or not on a loss that still "
            "hangs on the model (`torch.tensor(…)`, `.detach()`, `.item()` or `no_grad` cut it off)."
        )
    return f"{what} was not called in step {step}."


_DRAWS = {
    "same_again": "from the same state of the generator come other ids: something else is drawn from than `generator` "
    "(or torch's own, where it is None).",
    "new_later": "a second call with the same generator gives the same ids once more: nothing may set it back.",
    "moved": "torch's own generator was moved though another was handed over: draw with `generator=generator`, and set "
    "no seed.",
}


def _calls(name: str, expected: list[Tree], got: list[Tree]) -> str:
    if len(got) != len(expected):
        own = name if "." in name else f"self.{name}"
        return f"`{name}` was called {len(got)} times, expected {len(expected)}: call `{own}` once in each forward."
    for mine, asked in zip(got, expected, strict=True):
        for key, value in asked.items():
            if mine.get(key) != value:
                shapes = [f"of shape {tuple(v)}" if isinstance(v, list) else f"{v}" for v in (mine.get(key), value)]
                return f"`{name}` was called with a `{key}` {shapes[0]}, expected {shapes[1]}."
    return f"`{name}` was called otherwise than expected."


def _misdropped(expected: Tree, got: Tree | None) -> Difference:
    """For what dropout did in many calls (see `autograder.scenarios.module.dropped`)."""
    if got is None:
        return Difference("Dropout could not be looked at: the parameters have other names or shapes than asked.")
    if (have := got["values"]) != (wanted := expected["values"]):
        many = have == "many" or len(have) > len(wanted) + 6
        shown = "many different numbers" if many else ", ".join(map(str, have))
        if have == "not finite":
            shown = "no finite numbers"
        return Difference(
            f"In training mode, what is added to the states came out as {shown}; expected is "
            f"{', '.join(map(str, wanted))}. Before dropout it is one number everywhere; dropout makes 0 of it, or "
            "divides it by the share that is kept."
        )
    if whole := [name for name in got["alike"] if name not in expected["alike"]]:
        return Difference(
            f"Dropout falls alike on all {' and '.join(whole)}: they are kept or dropped together. Each number has a "
            "chance of its own."
        )
    return Difference("In training mode, another share is dropped than asked.")


def _leaves(case: Case, expected: Tree) -> list[str]:
    """The names of what gradients are taken at: floating-point inputs, then a module's parameters."""
    given = case.inputs.get("forward", case.inputs)
    floats = [place for place, tensor in tensors_of(given) if tensor.is_floating_point()]
    return [*(_argument(case, place) for place in floats), *sorted(expected.get("parameters", {}))]


def _argument(case: Case, place: str) -> str:
    kind, _, rest = place.partition(".")
    if kind == "args" and rest.isdigit() and int(rest) < len(case.names):
        return case.names[int(rest)]
    return rest or place


def notes(end: Tree) -> list[str]:
    """What is worth a remark though it costs no points: printing, warnings."""
    said = []
    printed = end.get("printed") or {}
    if printed.get("bytes"):
        lines, shown = printed["lines"], printed["text"].splitlines()[:20]
        more = (
            f" Of {lines:,} lines ({printed['bytes']:,} bytes) the first {len(shown)} are shown."
            if lines > len(shown)
            else ""
        )
        said.append(f"Your code printed something.{more}\n" + "\n".join(line[:200] for line in shown))
    said += [f"Your code warned: {warning}" for warning in end.get("warned", [])]
    return said
