"""What `import cricavpr` offers, and what it costs."""

import subprocess
import sys

import cricavpr


def test_every_public_name_is_there() -> None:
    for name in cricavpr.__all__:
        assert getattr(cricavpr, name) is not None


def test_a_function_stays_a_function_when_its_module_is_imported() -> None:
    code = "import cricavpr.describing, cricavpr; assert callable(cricavpr.describe)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_brings_in_nothing_heavy() -> None:
    code = (
        "import sys, cricavpr, cricavpr.cli; print([m for m in ('torch', 'numpy', 'PIL', 'scipy') if m in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert seen.stdout.strip() == "[]"
