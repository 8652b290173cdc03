"""Files that code loads: only constants that reach a call that reads models."""

import ast

import pytest

from mlship.init.load_calls import LoadedFile, find_loaded_files, path_constants


def _files(code: str, module: str = "m.py") -> list[LoadedFile]:
    nodes = list(ast.walk(ast.parse(code)))
    return find_loaded_files(nodes, path_constants(nodes, module))[0]


def loaded(code: str, module: str = "pkg/m.py") -> list[tuple[str, bool]]:
    return [(file.text, file.anchored) for file in _files(code, module)]


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("joblib.load('model.pkl')", "model.pkl"),
        ("pickle.load(open('./m/model.pkl', 'rb'))", "m/model.pkl"),
        ("P = 'a.onnx'\nInferenceSession(P)", "a.onnx"),
        ("def f(path='a.h5'): return load_model(path)", "a.h5"),
        ("class A:\n P = 'w/a.pt'\n def f(self): torch.load(self.P, map_location='cpu')", "w/a.pt"),
        ("W = 'weights'\nload_file(W + '/m.safetensors')", "weights/m.safetensors"),
        ("W = 'weights'\nload_file(f'{W}/{str(W)}.safetensors')", "weights/weights.safetensors"),
        ("load(Path(__file__).parent / 'm.bin')", "pkg/m.bin"),
        ("HERE = Path(__file__).parent\nwith open(f'{HERE}/m.pkl', 'rb') as f: pickle.load(f)", "pkg/m.pkl"),
        ("load(Path(__file__).resolve().parents[1] / 'models' / 'm.bin')", "models/m.bin"),
        ("load(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'm.bin'))", "pkg/m.bin"),
        ("HERE = Path(__file__).parent\nwith (HERE / 'm.pkl').open('rb') as f: pickle.load(f)", "pkg/m.pkl"),
        ("Booster(model_file='m.txt2')\nBooster(model_file='x/m.txt')", "x/m.txt"),
        ("Llama(model_path='m.gguf')", "m.gguf"),
        ("here = Path(__file__).parent\nload_learner(here, 'm.pkl')", "pkg/m.pkl"),
        ("load_learner('w/m.pkl', True)", "w/m.pkl"),
        ("pickle.load(open('model.sav', 'rb'))", "model.sav"),
        ("def f(p): return p.load\np = 'a.pt'\nload(p)", "a.pt"),
    ],
)
def test_constants_reach_the_call(code: str, path: str) -> None:
    assert set(loaded(code)) == {(path, False)}


@pytest.mark.parametrize(
    "path", ["os.path.join(settings.DIR, 'm.pt')", "f'{settings.DIR}/m.pt'", "settings.DIR + '/m.pt'"]
)
def test_a_path_below_an_unknown_folder_says_so(path: str) -> None:
    assert loaded(f"load({path})") == [("m.pt", True)]


@pytest.mark.parametrize(
    "code",
    [
        "torch.save(model, 'model.pt')",
        "open('model.pkl', 'wb')",
        "open('model.pkl', mode='w')",
        "load_dotenv('.env')",
        "open('input.txt')",
        "load('path/to/model.pt')",
        "load('models/your_model.h5')",
        "load('https://example.org/model.pt')",
        "load('/opt/model.pt')",
        "load(f'')",
        "load(f'{name}')",
        "load(f'{folder}/{name}')",
        "load(os.path.join(folder, name))",
        "open(os.path.join('uploads', name))",
        "load('{}'.format(name))",
        "load('%s' % name)",
        "P = 'a.pt'\nP = 'b.pt'\nload(P)",
        "download('model.pt')",
        "x = 'model.pt'",
        "def f(p, *, q): return load(p) or load(q)\ndef g():\n p = 'a.pt'\n q = 'b.pt'\n save(p, q)",
    ],
)
def test_what_is_written_unknown_or_a_placeholder_is_not_loaded(code: str) -> None:
    assert loaded(code) == []


def test_a_text_of_many_parts_is_no_path() -> None:
    long = " + ".join(f"'{at}'" for at in range(900))
    assert loaded(f"x = {long}\nload(x + '.pt')\nload('m.pt')")[1:] == [("m.pt", False)]
    doubled = "\n".join(f"a{at + 1} = a{at} + a{at}" for at in range(60))
    assert loaded(f"a0 = 'x'\n{doubled}\nload(a60 + '.pt')") == [("*.pt", False)]


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("f'{name}.pt'", ("*.pt", False)),
        ("name + '.pt'", ("*.pt", False)),
        ("name + '_' + str(i) + '.pt'", ("*_*.pt", False)),
        ("f'{folder}/{name}.pt'", ("*.pt", True)),
        ("f'models/v{number:03d}/{name!s}_model.pkl'", ("models/v*/*_model.pkl", False)),
        ("os.path.join(folder, '%s.onnx' % name)", ("*.onnx", True)),
        ("os.path.join('models', '%s-%d.onnx' % ('net', i))", ("models/net-*.onnx", False)),
        ("'model_{}.pt'.format(i)", ("model_*.pt", False)),
        ("'{0}/{1}_{kind}.pt'.format('w', i, kind=k)", ("w/*_*.pt", False)),
        ("'{}/{}.pt'.format(folder, i)", ("*.pt", True)),
        ("Path(folder) / f'{x}.pkl'", ("*.pkl", True)),
        ("Path(__file__).parent / 'm' / f'{x}.pkl'", ("pkg/m/*.pkl", False)),
        ("os.path.join('models', name)", ("models/*", False)),
        ("os.path.join('models', version, 'model.pkl')", ("models/*/model.pkl", False)),
        ("sorted(glob.glob('models/*.pkl'))[-1]", ("models/*.pkl", False)),
        ("next(Path('models').glob('*.pkl'))", ("models/*.pkl", False)),
        ("next(Path('models').rglob('*.pkl'))", ("models/**/*.pkl", False)),
        ("next(iglob(os.path.join(folder, '*.pkl')))", ("*.pkl", True)),
    ],
)
def test_a_computed_name_is_a_pattern(path: str, pattern: tuple[str, bool]) -> None:
    assert loaded(f"load({path})") == [pattern]
    assert loaded(f"p = {path}\nload(p)") == [pattern]


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("for n in ['a', 'b']: load(f'm/{n}.pt')", ["m/a.pt", "m/b.pt"]),
        ("NAMES = ('a', 'b')\nM = {n: load(f'{n}.pt') for n in NAMES}", ["a.pt", "b.pt"]),
        ("NAMES = ('a', 'b')\nfor n in NAMES: print(n)\nfor n in NAMES: load(n + '.pt')", ["a.pt", "b.pt"]),
        ("for n in ['a.pt', 'b.pt']: load(n)", ["a.pt", "b.pt"]),
        ("for n in ['a', x]: load(f'm/{n}.pt')", ["m/*.pt"]),
        ("for n in ['a', 'b']: print(n)\nfor n in names: load(f'm/{n}.pt')", ["m/*.pt"]),
        ("for n in ['a', 'b']:\n n = other(n)\n load(f'm/{n}.pt')", ["m/*.pt"]),
        ("for n in ['a', 'b']: print(n)\ndef f(n): load(f'm/{n}.pt')", ["m/*.pt"]),
        (f"for n in {[*map(str, range(99))]}: load(f'm/{{n}}.pt')", ["m/*.pt"]),
    ],
)
def test_a_loop_over_a_list_gives_each_name(code: str, files: list[str]) -> None:
    assert [file.text for file in _files(code)] == files


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("AutoModel.from_pretrained('gpt2')", ["gpt2"]),
        ("AutoModel.from_pretrained('./gpt2')", []),
        ("M = 'org/name'\npipeline('text-classification', model=M)", ["org/name"]),
        ("pipeline('text-classification')", []),
        ("SentenceTransformer('all-MiniLM-L6-v2', device='cpu')", ["all-MiniLM-L6-v2"]),
        ("model_class.from_pretrained('original')", []),
        ("snapshot_download(repo_id='org/name')", ["org/name"]),
    ],
)
def test_names_on_the_hub(code: str, names: list[str]) -> None:
    assert [file.text for file in _files(code) if file.is_hub_name] == names


@pytest.mark.parametrize(
    "code",
    [
        "load('a.pt' if small else 'b.pt')",
        "class A:\n def f(self, small):\n  if small:\n   self.p = 'a.pt'\n  else:\n   self.p = 'b.pt'\n  load(self.p)",
    ],
)
def test_each_file_of_a_choice_is_loaded(code: str) -> None:
    assert [file.text for file in _files(code)] == ["a.pt", "b.pt"]


def test_a_path_in_the_image_is_one_in_the_repository() -> None:
    assert loaded("onnxruntime.InferenceSession('/app/models/m.onnx')") == [("models/m.onnx", False)]
    assert loaded("onnxruntime.InferenceSession('/opt/models/m.onnx')") == []
