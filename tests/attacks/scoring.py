"""Answers that try to get points by other ways than being right, each with what it claims.

Each is an answer to `softmax` unless it says otherwise, and wrong: whatever `WRONG` gives is worth nothing. Those that
are to come to an end print `RAN` when they have done what they came for, so that none is harmless by a slip of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from autograder.messages import Tree

RAN = "the attack ran to its end"
WRONG = f"""
def softmax(scores, dim=-1):
    return scores * 0

print({RAN!r})
"""

# An answer that hangs in its cell binds the name all the same, or it would not be run at all.
BINDS = """
def softmax(scores, dim=-1):
    return scores
"""
HANG = """
import time
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""

# Speak on the child's own connection.
WIRE = """
import os, stat, sys
from autograder.messages import encode, nested

def connection():
    for number in range(3, 1024):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return number
        except OSError:
            pass
    raise LookupError("there is no connection")

def raw(content, announced=None):
    content = (len(content) if announced is None else announced).to_bytes(8, "big") + content
    while content:
        content = content[os.write(CONNECTION, content):]

def say(message):
    raw(encode(message))

CONNECTION = connection()
"""

# Find the request in the runner's frames.
FRAMES = """
import sys

def frames():
    frame = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back

def sent():
    found = [frame.f_locals.get("asked") for frame in frames()]
    return next(each for each in found if isinstance(each, dict) and "cases" in each)
"""


@dataclass(frozen=True)
class Attack:
    """One answer.

    Attributes:
        name: for the test's.
        claim: what it would get, where it succeeds.
        source: the answer cell.
        shows: what the graded notebook shows when the attack has run; "" where it never gets there.
        kinds: of the reason that is due, one of these; none where the answer is only wrong.
        hangs: does it stay until it is ended?
        exercise: which it is an answer to.
    """

    name: str
    claim: str
    source: str
    shows: str = RAN
    kinds: tuple[str, ...] = ()
    hangs: bool = False
    exercise: str = "softmax"


ENDED = ("ended the process", "was killed")
LATE = ("took too long",)
TOO_MUCH = ("said too much",)

PATCHES = [
    Attack(
        "torch's comparisons",
        "every comparison says equal",
        """
import torch
yes = lambda *args, **kwargs: True
torch.allclose = torch.equal = torch.isclose = torch.testing.assert_close = yes
torch.Tensor.allclose = torch.Tensor.equal = torch.Tensor.isclose = yes
torch.Tensor.__eq__ = lambda self, other: torch.ones(self.shape, dtype=torch.bool)
"""
        + WRONG,
    ),
    Attack(
        "a tensor that is equal to all",
        "the result itself says that it is right",
        """
import torch

class Right(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ in ("allclose", "equal", "isclose", "__eq__", "eq"):
            return True
        return super().__torch_function__(func, types, args, kwargs or {})

def softmax(scores, dim=-1):
    return (scores * 0).as_subclass(Right)

print("the attack ran to its end")
""",
    ),
    Attack(
        "builtins",
        "whatever is asked is true",
        """
import builtins
builtins.all = builtins.any = builtins.isinstance = lambda *args: True
builtins.abs = lambda value: 0
"""
        + WRONG,
        shows="",
        kinds=ENDED,
    ),
    Attack(
        "the scenario",
        "the scenario says what is asked for without calling the answer",
        """
import autograder.scenarios as scenarios

def generous(answer, inputs, earlier):
    return {"result": True, "changed": [], "right": True, "passed": True, "points": 2.0}

for name in scenarios.SCENARIOS:
    scenarios.SCENARIOS[name] = generous
"""
        + WRONG,
    ),
    Attack(
        "the runner",
        "the runner says what it did not see",
        """
import autograder.runner as runner
runner._observed = lambda *args: {"value": {"result": True, "changed": []}, "right": True, "points": 2.0}
"""
        + WRONG,
    ),
    Attack(
        "what observes",
        "each result is described as anything at all",
        """
import autograder.observe, autograder.scenarios.call as call

class Anything:
    __eq__ = lambda self, other: True
    __hash__ = None

autograder.observe.described = call.described = lambda value, depth=0: {"$kind": "anything", "equals": True}
"""
        + WRONG,
    ),
    Attack(
        "the messages",
        "every message says two points",
        """
import autograder.runner as runner
from autograder.messages import encode
runner.encode = lambda message: encode({**message, "points": 2.0, "right": True, "passed": True, "verdict": "2"})
"""
        + WRONG,
    ),
    Attack(
        "the judge, if it were here",
        "judge, comparison and verdict say right",
        """
import autograder.compare, autograder.judge, autograder.verdict
autograder.compare.same = autograder.judge.same = lambda *args: True
autograder.judge._difference = lambda *args: None
autograder.judge.decide = lambda packs, said, most, elsewhere=(): autograder.verdict.Verdict("softmax", most, most)
autograder.verdict.Verdict.__repr__ = lambda self: "2"
"""
        + WRONG,
    ),
    Attack(
        "IPython",
        "the shell runs no assert and shows 2.0 for each cell",
        """
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
import ast

class NoAsserts(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()

shell = InteractiveShell.instance()
shell.ast_transformers.append(NoAsserts())
shell.run_cell("2.0")
InteractiveShell.run_code = InteractiveShell.run_cell = lambda *args, **kwargs: ExecutionResult(None)
shell.set_custom_exc((BaseException,), lambda *args: None)
"""
        + WRONG,
    ),
    Attack(
        "an AST transformer of its own",
        "whatever is compiled from here on is right",
        """
import ast, builtins
compile_ = builtins.compile

def transforming(source, *args, **kwargs):
    return compile_("points = passed = True" if isinstance(source, ast.AST) else source, *args, **kwargs)

builtins.compile = transforming
"""
        + WRONG,
    ),
    Attack(
        "a shadow of torch",
        "sys.modules has a torch in which all is equal",
        """
import sys, types, torch
shadow = types.ModuleType("torch")
vars(shadow).update(vars(torch))
shadow.allclose = shadow.equal = lambda *args, **kwargs: True
sys.modules["torch"] = shadow
"""
        + WRONG,
    ),
    Attack(
        "a torch.py beside it",
        "whoever imports torch next gets this file",
        """
import sys
with open("/tmp/torch.py", "w") as file:
    file.write("allclose = equal = lambda *args, **kwargs: True")
sys.path.insert(0, "/tmp")
sys.path_importer_cache.clear()
sys.modules.pop("autograder.judge", None)
"""
        + WRONG,
    ),
    Attack(
        "an importer of its own",
        "each later import gives a module that says right",
        """
import importlib.abc, importlib.machinery, sys, types

class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.same = module.judge = module.decide = lambda *args, **kwargs: True
        return module
    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Importer())
for name in [name for name in sys.modules if name.startswith("autograder.") and "runner" not in name]:
    del sys.modules[name]
"""
        + WRONG,
        kinds=ENDED,
    ),
]

HANDLERS = [
    Attack(
        "a swallowed interrupt",
        "a loop that no interrupt ends is not waited for in vain",
        """
def softmax(scores, dim=-1):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
""",
        shows="",
        kinds=LATE,
        hangs=True,
    ),
    Attack(
        "ignored signals",
        "no signal that can be ignored ends it",
        """
import signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    time.sleep(1)
"""
        + BINDS,
        shows="",
        kinds=LATE,
        hangs=True,
    ),
    Attack(
        "no clock",
        "the watch on the time is taken away, the loop goes on",
        """
import _thread, threading
_thread.interrupt_main = lambda *args: None
threading.Event.wait = lambda self, timeout=None: True
import autograder.guard, signal
signal.raise_signal = autograder.guard.signal.raise_signal = lambda number: None
while True:
    pass
"""
        + BINDS,
        shows="",
        kinds=LATE,
        hangs=True,
    ),
    Attack(
        "hooks for exceptions",
        "an error is taken for a pass",
        """
import atexit, faulthandler, sys, threading
sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *args: None
faulthandler.disable()
atexit.register(lambda: print("2.0"))
sys.settrace(lambda *args: None)
sys.setprofile(lambda *args: None)
sys.displayhook = lambda value: None
"""
        + WRONG,
    ),
    Attack(
        "leaving with 0",
        "a process that ends well is a pass",
        """
import os

def softmax(scores, dim=-1):
    os._exit(0)
""",
        shows="",
        kinds=("ended the process",),
    ),
    Attack(
        "sys.exit",
        "SystemExit(0) is a pass",
        """
import sys
print("the attack ran to its end")

def softmax(scores, dim=-1):
    sys.exit(0)
""",
    ),
    Attack(
        "leaving at exit",
        "what is said at exit comes after the judge has looked",
        WIRE
        + """
import atexit
atexit.register(lambda: say({"what": "end", "points": 2.0}))
"""
        + WRONG,
    ),
    Attack(
        "a fault of the interpreter",
        "a crash is the machine's fault, and so a pass",
        """
import ctypes

def softmax(scores, dim=-1):
    ctypes.string_at(0)
""",
        shows="",
        kinds=ENDED,
    ),
]

PROTOCOL = [
    Attack(
        "a verdict of its own",
        "messages that look like a pass",
        WIRE
        + """
say({"what": "definition", "kind": "function", "signature": "(scores, dim=-1)", "type": "function"})
for index in range(8):
    seen = nested({"value": {"result": True, "changed": []}})
    say({"what": "case", "index": index, "observation": seen, "right": True})
say({"what": "verdict", "points": 2.0, "max_points": 2.0, "passed": True})
say({"what": "end", "stopped": None, "points": 2.0, "verdict": "2"})
"""
        + WRONG,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "an end before the cases",
        "a case that is not tried is not wrong",
        WIRE
        + """
say({"what": "definition", "kind": "function", "signature": "(scores, dim=-1)", "type": "function"})
say({"what": "end", "stopped": None})
"""
        + WRONG,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "cases of a longer list",
        "cases that nobody asked for count, too",
        WIRE
        + """
for index in (10**9, 8, 9, -1, -9, 2**70, True):
    say({"what": "case", "index": index, "observation": nested({"value": {"result": True, "changed": []}})})
"""
        + WRONG,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "an observation that is no message",
        "the judge falls over a tensor of one element and an odd stride",
        WIRE
        + """
import json
say({"what": "definition", "kind": "function", "signature": "(scores, dim=-1)", "type": "function"})
for note in ({"dtype": "bfloat16", "shape": [1], "stride": [2]}, {"dtype": "uint8", "shape": [2], "stride": [8]}):
    tree = {"what": "case", "index": 0, "observation": {"$tensor": 0}}
    header = json.dumps({"tree": tree, "tensors": [note]}).encode()
    raw(b"CTK1" + len(header).to_bytes(4, "big") + header + bytes(2))
"""
        + WRONG,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "everything twice",
        "what was right once is counted again",
        """
import autograder.sandbox.child as child
once = child.send
child.send = lambda connection, message, until=None: (once(connection, message), once(connection, message))
"""
        + WRONG,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "an exabyte announced",
        "the judge's memory is filled before anything is read",
        WIRE
        + """
raw(b"", announced=2**60)
"""
        + WRONG,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "half a message",
        "the judge waits for the other half for ever",
        WIRE
        + """
raw(encode({"what": "end", "stopped": None})[:10], announced=50)
"""
        + BINDS
        + HANG,
        shows="",
        kinds=LATE,
        hangs=True,
    ),
    Attack(
        "half a length",
        "the judge waits for the other half for ever",
        WIRE
        + """
os.write(CONNECTION, b"\\0\\0\\0")
"""
        + BINDS
        + HANG,
        shows="",
        kinds=LATE,
        hangs=True,
    ),
    Attack(
        "one byte at a time",
        "each byte starts the judge's clock anew",
        WIRE
        + """
import time
os.write(CONNECTION, (10_000).to_bytes(8, "big"))
while True:
    try:
        os.write(CONNECTION, b"x")
        time.sleep(0.05)
    except KeyboardInterrupt:
        pass
"""
        + BINDS,
        shows="",
        kinds=LATE,
        hangs=True,
    ),
    Attack(
        "empty messages without end",
        "the judge reads for ever",
        WIRE
        + """
while True:
    raw(b"")
"""
        + BINDS,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "noise",
        "the judge falls over what is none of its messages",
        WIRE
        + """
for noise in (b"CTK1", b"CTK1" + b"\\xff" * 100, os.urandom(1000), b"CTK1\\0\\0\\0\\x02{}", b"{" * 1000):
    raw(noise)
"""
        + WRONG,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "questions without end",
        "the judge answers for ever",
        WIRE
        + """
import threading

def answers():
    while os.read(CONNECTION, 65536):
        pass

threading.Thread(target=answers, daemon=True).start()
while True:
    say({"what": "ask", "held": 0, "call": "decode", "failed": True})
"""
        + BINDS,
        shows="",
        kinds=LATE + TOO_MUCH + ENDED,
        hangs=True,
    ),
    Attack(
        "questions whose answers nobody reads",
        "the judge waits for its answers to be read",
        WIRE
        + """
while True:
    say({"what": "ask", "held": 0, "call": "x" * 10_000})
"""
        + BINDS,
        shows="",
        kinds=LATE,
        hangs=True,
    ),
    Attack(
        "a header that is a bomb",
        "reading a message costs the judge minutes and gigabytes",
        WIRE
        + """
for header in (b'{"tree":' + b"[" * 4_000_000, b'{"tree": [' + b"{}," * 2_000_000 + b'0], "tensors": []}',
               b'{"tree": ' + b"9" * 8_000_000 + b', "tensors": []}',
               b'{"tree": 0, "tensors": [{"dtype": "float64", "shape": [1000000000000]}]}'):
    raw(b"CTK1" + len(header).to_bytes(4, "big") + header)
"""
        + WRONG,
        shows="",
        kinds=TOO_MUCH,
    ),
    Attack(
        "an unplugged connection",
        "without a connection there is no zero",
        WIRE
        + """
os.close(CONNECTION)
"""
        + WRONG,
        shows="",
        kinds=ENDED,
    ),
    Attack(
        "the connection handed away",
        "the judge hears another one",
        WIRE
        + """
os.dup2(os.open("/dev/null", os.O_RDWR), CONNECTION)
"""
        + WRONG,
        shows="",
        kinds=LATE + ENDED,
        hangs=True,
    ),
    Attack(
        "a file handed over",
        "the judge takes a file that comes with a message",
        WIRE
        + """
import array, socket
with socket.socket(fileno=os.dup(CONNECTION)) as speaking:
    try:
        files = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [CONNECTION] * 8))]
        speaking.sendmsg([(3).to_bytes(8, "big") + b"abc"], files)
    except OSError:
        pass
"""
        + WRONG,
        shows="",
    ),
]

# What might be said of a case, shaped to make whoever reads it fall over, or to fill the feedback.
LONG = "x" * 1_000_000
STRANGE_OBSERVATIONS: list[Tree] = [
    {}, {"value": None}, {"value": []}, {"value": {}}, {"value": {"result": None}},
    {"value": {"result": LONG, "changed": []}}, {"value": {"result": [LONG], "changed": [LONG]}},
    {"value": {"result": {"$kind": LONG}, "changed": []}}, {"value": {"result": {"$kind": 3}, "changed": None}},
    {"value": {"result": float("nan"), "changed": [float("inf")]}}, {"value": {"sealed": 3}},
    {"value": {"unlisted": LONG}}, {"value": {"parameters": None, "kind": "module"}},
    {"value": {"parameters": {LONG: [1]}, "attributes": 7, "kind": "module"}},
    {"value": {"steps": 3, "reads": [None], "empty": [1]}}, {"value": {"result": (), "gradients": 3}},
    {"value": {"result": (LONG, LONG), "changed": []}}, {"value": {"result": 0, "changed": [LONG, 3, None]}},
    {"raised": None}, {"raised": {}}, {"raised": {"type": LONG, "message": LONG, "line": 1, "text": LONG}},
    {"raised": {"type": 3, "message": 4, "line": [], "text": {}}},
    {"raised": {"type": "E", "message": "", "operation": LONG, "shapes": [[LONG]], "line": LONG, "text": ""}},
    {"raised": {"type": "NameError", "message": "", "name": LONG, "line": LONG, "text": LONG}},
    {"raised": {"type": "NameError", "message": "", "name": [], "line": 0, "text": 0}},
    {"forbidden": LONG, "line": LONG}, {"forbidden": None}, {"not accepted": LONG, "what": ""},
    {"not accepted": LONG, "what": LONG}, {"not accepted": []}, {"unwritten": LONG}, {"unwritten": {}},
]  # fmt: skip
STRANGE_DEFINITIONS: list[Tree] = [
    {}, {"kind": None}, {"kind": []}, {"kind": "raised"}, {"kind": "raised", "type": LONG, "message": LONG, "line": 3},
    {"kind": "raised", "type": "SyntaxError", "line": LONG, "message": LONG, "text": LONG},
    {"kind": "library", "type": LONG}, {"kind": "other", "type": LONG}, {"kind": "library"},
]  # fmt: skip
STRANGE_ENDS: list[Tree] = [
    {"stopped": True}, {"stopped": LONG}, {"stopped": {"line": LONG, "text": LONG, "time_up": LONG}}, {"printed": 3},
    {"printed": {"text": LONG, "bytes": 10**30, "lines": -1}}, {"printed": {"text": 3, "bytes": 1}},
    {"printed": {"text": "a\n" * 1_000_000, "bytes": "x", "lines": 1}}, {"warned": [LONG] * 50}, {"warned": 3},
    {"warned": ["w"] * 200_000},
]  # fmt: skip

STRANGE_VALUES = {
    "a tensor subclass that lies": """
import torch

class Lies(torch.Tensor):
    shape = property(lambda self: torch.Size([3, 4]))
    dtype = property(lambda self: torch.float32)
    def detach(self): return torch.full((3, 4), 0.25)
    def __float__(self): return 0.25

def softmax(scores, dim=-1):
    return torch.zeros(1).as_subclass(Lies)
""",
    "a dict that is equal to all": """
class Equal(dict):
    __eq__ = lambda self, other: True
    __hash__ = None

def softmax(scores, dim=-1):
    return Equal(result=1)
""",
    "a float that is any": """
class Any(float):
    __eq__ = __le__ = __ge__ = __lt__ = __gt__ = lambda self, other: True
    __hash__ = None
    __float__ = lambda self: 2.0
    __repr__ = lambda self: "2.0"

def softmax(scores, dim=-1):
    return Any(2.0)
""",
    "a tuple without end": """
import itertools

class Endless(tuple):
    __iter__ = lambda self: itertools.repeat(0)
    __len__ = lambda self: 1

def softmax(scores, dim=-1):
    return Endless()
""",
    "a named tuple": """
import collections

def softmax(scores, dim=-1):
    return collections.namedtuple("Verdict", "points max_points")(2.0, 2.0)
""",
    "a list in itself": """
def softmax(scores, dim=-1):
    made = []
    made.append(made)
    return made
""",
    "a generator": """
def softmax(scores, dim=-1):
    yield scores.softmax(dim)
""",
    "ten million items": """
def softmax(scores, dim=-1):
    return [0.0] * 10_000_000
""",
    "many lists of many items": """
def softmax(scores, dim=-1):
    return [[[0.0] * 10_000] * 10_000] * 10_000
""",
    "NaN everywhere": """
import torch

def softmax(scores, dim=-1):
    return torch.full((2000, 2000), float("nan"))
""",
    "NaN in the right shape": """
def softmax(scores, dim=-1):
    return scores * float("nan")
""",
    "a tensor of a gigabyte that is one number": """
import torch

def softmax(scores, dim=-1):
    return torch.zeros(1).expand(250_000_000)
""",
    "a text of ten megabytes": """
def softmax(scores, dim=-1):
    return "2.0 " * 2_500_000
""",
    "a class with a long name": """
def softmax(scores, dim=-1):
    return type("x" * 1_000_000, (), {"__module__": "y" * 1_000_000})()
""",
    "a module that is no text": """
def softmax(scores, dim=-1):
    return type("Odd", (), {"__module__": property(lambda self: 1 / 0)})()
""",
    "a huge message": """
def softmax(scores, dim=-1):
    raise ValueError("x" * 100_000_000)
""",
    "an error with a long name": """
def softmax(scores, dim=-1):
    raise type("E" * 1_000_000, (Exception,), {})("x")
""",
    "an error that cannot be told": """
class Untold(Exception):
    def __str__(self): raise self
    __repr__ = __str__

def softmax(scores, dim=-1):
    raise Untold
""",
    "a chain of ten thousand errors": """
def softmax(scores, dim=-1):
    error = ValueError("0")
    for number in range(10_000):
        cause, error = error, ValueError(number)
        error.__cause__ = error.__context__ = cause
    raise error
""",
    "a group of errors": """
def softmax(scores, dim=-1):
    raise BaseExceptionGroup("group", [KeyboardInterrupt(), SystemExit(0), *[ValueError()] * 10_000])
""",
    "deep recursion": """
import sys
sys.setrecursionlimit(10**9)

def softmax(scores, dim=-1):
    return softmax(scores, dim)
""",
    "a signature that cannot be told": """
class Default:
    def __repr__(self): raise ValueError("no")

def softmax(scores, dim=Default()):
    return scores * 0
""",
    "a signature that lies": """
import inspect

def softmax(*args, **kwargs):
    return args[0] * 0

softmax.__signature__ = inspect.Signature()
softmax.__wrapped__ = softmax
""",
    "a metaclass that answers": """
class Meta(type):
    def __instancecheck__(cls, instance): return True
    def __subclasscheck__(cls, other): return True
    def __getattribute__(cls, name): raise RuntimeError(name)
    def __call__(cls, *args, **kwargs): return cls
    def __class_getitem__(cls, item): return cls

class softmax(metaclass=Meta):
    pass
""",
    "an object in the place of a function": """
class Callable:
    def __getattr__(self, name): return self
    def __call__(self, *args, **kwargs): return self
    __class__ = property(lambda self: type(lambda: 0))

softmax = Callable()
""",
}

# Encodes the word anew for each letter, which is right but for the number of calls; then says other numbers.
_ENCODES_EACH_TIME = """
import torch

def greedy_word(model, source, start_id, end_id, max_length):
    mask = torch.ones(1, 1, 1, source.size(1), dtype=torch.bool)
    word = [start_id]
    while len(word) <= max_length and (len(word) == 1 or word[-1] != end_id):
        memory = model.encode(source)
        logits = model.decode(torch.tensor([word]), memory)
        word.append(int(logits[0, -1].argmax()))
    return word[1:]

print({ran!r})
"""
FORGED_COUNTS = {
    "nothing forged": "",
    "a number beside the result": """
import autograder.runner as runner
from autograder.messages import nested

def forged(observation):
    if "value" in observation:
        observation["value"]["encoded"] = 1
    return nested(observation)

runner.nested = forged
""",
    "a case counted from the end": """
import autograder.runner as runner
from autograder.messages import encode, nested

def forged(observation):
    if "value" in observation:
        observation["value"]["encoded"] = 1
    return nested(observation)

def renumbered(message):
    if message["what"] == "case":
        message["index"] -= CASES
    return encode(message)

CASES = len(sent()["cases"])
runner.nested, runner.encode = forged, renumbered
""",
    "a table of its own": """
import autograder.scenarios.asked as asked
asked.Asked.counted = lambda self, names=(): {"encoded": 1, "decoded": 1, "asked_again": 0}
""",
    "questions to nobody's table": """
import autograder.scenarios.asked as asked
once = asked.Asked.encode

def encode(self):
    self.number += 1000
    try:
        once(self)
    except ValueError:
        pass
    finally:
        self.number -= 1000

asked.Asked.encode = encode
""",
}


def forged_counts(name: str) -> str:
    """An answer to `greedy_word` that asks too often, and forges the count in one way."""
    return FRAMES + FORGED_COUNTS[name] + _ENCODES_EACH_TIME.format(ran=RAN)
