"""Python source as sequences to tag: each function a sequence of tokens, each token with what it is.

The labels come from Python's own tokenizer and parser. `write_data` makes train, dev and test files of the
functions of the standard library, as `penstock train tag` reads them: one token and its label a line, an
empty line after each function.
"""

import ast
import builtins
import io
import keyword
import random
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Labels that need context.
NAMES = (
    "parameter",  # of the function, where it is declared and where it is used
    "local",  # any other name the function binds
    "global",  # a name that the module around it must define
    "builtin",  # a name of Python's own that the function does not bind
    "argument",  # the name in f(name=...)
    "method",  # after a dot, and called
    "attribute",  # after a dot, not called
    "definition",  # the name after def or class
    "import",  # a name in an import statement
)
# Labels that the token alone tells.
PLAIN = ("keyword", "operator", "number", "string")

STRING = '"…"'  # stands for every string literal
SEED = 1
LONGEST = 256  # functions with more tokens are left out

Function = list[tuple[str, str]]  # (token, label)
Position = tuple[int, int]  # line from 1, column from 0
Tokens = list[tuple[str, tokenize.TokenInfo]]

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


class Scope(ast.NodeVisitor):
    """What the parser knows of the names in one function and in the functions inside it."""

    def __init__(self, function: ast.AST) -> None:
        self.parameters: set[str] = set()
        self.bound: set[str] = set()
        self.arguments: set[Position] = set()
        self.imports: list[tuple[Position, Position]] = []
        self.visit(function)

    def generic_visit(self, node: ast.AST) -> None:
        match node:
            case ast.arg(arg=name):
                self.parameters.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                self.bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                self.bound.add(name)
            case ast.ExceptHandler(name=str(name)):
                self.bound.add(name)
            case ast.alias(name=path, asname=alias):
                self.bound.add(alias or path.split(".")[0])
            case ast.keyword(arg=str(), lineno=line, col_offset=column):
                self.arguments.add((line, column))
            case ast.Import() | ast.ImportFrom():
                end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
                self.imports.append(((node.lineno, node.col_offset), end))
        super().generic_visit(node)

    def label(self, name: str) -> str:
        """What `name` is where neither its neighbours nor its place say so."""
        if name in self.parameters:
            return "parameter"
        if name in self.bound:
            return "local"
        return "builtin" if hasattr(builtins, name) else "global"

    def label_at(self, name: str, position: Position, before: str, after: str) -> str:
        """What `name` at `position` is, between the tokens before and after it."""
        if before in {"def", "class"}:
            return "definition"
        if any(start <= position < end for start, end in self.imports):
            return "import"
        if before == ".":
            return "method" if after == "(" else "attribute"
        return "argument" if position in self.arguments else self.label(name)


def read_tokens(source: str) -> Iterator[tuple[str, tokenize.TokenInfo]]:
    """The tokens of `source`, each with the text to learn from: no layout or comments, strings blanked."""
    inside = 0  # an f-string, which Python 3.12 and later take apart
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind.endswith("STRING_START") or kind == "STRING":
            if not inside:
                yield STRING, token
            inside += kind != "STRING"
        elif kind.endswith("STRING_END"):
            inside -= 1
        elif not inside and token.type not in LAYOUT:
            yield token.string, token


def label_function(function: ast.AST, tokens: Tokens) -> Function:
    """Every token of `function` with its label."""
    scope = Scope(function)
    texts = ["", *(text for text, _ in tokens), ""]
    labelled = []
    for (text, token), before, after in zip(tokens, texts, texts[2:], strict=False):
        if text == STRING:
            label = "string"
        elif token.type == tokenize.NUMBER:
            label = "number"
        elif token.type != tokenize.NAME:
            label = "operator"
        elif keyword.iskeyword(text):
            label = "keyword"
        else:
            label = scope.label_at(text, token.start, before, after)
        labelled.append((text, label))
    return labelled


def read_functions(source: str) -> Iterator[Function]:
    """The functions and methods of `source`, labelled; one inside another belongs to the outer one."""
    tree = ast.parse(source)
    tokens = list(read_tokens(source))
    for holder in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]:
        for node in holder.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if any(isinstance(inner, ast.Match) for inner in ast.walk(node)):
                continue  # the parser does not say where its `case` stands
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            yield label_function(node, [(text, token) for text, token in tokens if token.start[0] in lines])


def library_files() -> Iterator[Path]:
    """The standard library's source files in a shuffled order, always the same; its tests left out."""
    library = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
    files = [path for path in library.rglob("*.py") if not left_out & set(path.relative_to(library).parts)]
    files.sort()
    random.Random(SEED).shuffle(files)
    # The parser counts columns in bytes, the tokenizer in characters: the same only in ASCII.
    return (path for path in files if path.read_bytes().isascii())


def write_data(folder: Path, sizes: dict[str, int]) -> dict[str, list[Function]]:
    """Writes `folder`/PART.tsv for each part of `sizes`, of about as many tokens; parts share no file."""
    folder.mkdir(parents=True, exist_ok=True)
    files = library_files()
    parts: dict[str, list[Function]] = {part: [] for part in sizes}
    for part, functions in parts.items():
        count = 0
        while count < sizes[part] and (path := next(files, None)):
            read = [f for f in read_functions(path.read_text(encoding="ascii")) if len(f) <= LONGEST]
            functions.extend(read)
            count += sum(map(len, read))
        blocks = ("".join(f"{token}\t{label}\n" for token, label in function) for function in functions)
        (folder / f"{part}.tsv").write_text("\n".join(blocks), encoding="utf-8")
    return parts
