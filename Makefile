# Two commands are enough on a fresh machine: `make smoke` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

STUDIES := ood_sys1 ood_sys2 ood_sys2_exact ood_sys3 mixed scaling seeds

.PHONY: install smoke studies $(STUDIES:%=study-%) released test slurm test-slurm check docs bench leaderboard check-leaderboard clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): torch, numpy, pandas, matplotlib and smaller packages (one to four minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $(STAMP)

# The main job at low resolution: every system and a mixed pre-training, then a table and a figure.
smoke: $(STAMP)
	$(BIN)/pdefm run suites/smoke.yaml --model fno-64k --output runs

# Every study of the paper in its smallest form; what they share with each other is computed once. RUN adds options.
RUN ?=
studies: $(STUDIES:%=study-%)
$(STUDIES:%=study-%): study-%: $(STAMP)
	$(BIN)/pdefm run $* --model fno-64k --profile smoke --output runs $(RUN)

# Two released families with every protocol, from the tiny checkpoints of the tests. Their weights are random.
CHECKPOINTS := tests/plugins/released/fixtures
released: $(STAMP)
	set -e; for family in poseidon dpot; do \
		$(BIN)/pdefm run released --profile smoke --model $$family --set checkpoint=$(CHECKPOINTS)/$$family --output runs $(RUN); \
	done

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

# `make smoke` on a Slurm of one node on this machine, with the same records (root, Debian).
NO_SLURM := echo "SKIPPED: no Slurm, which needs root and packages of Debian"; exit 0
slurm: smoke
	@tests/support/slurm.sh install || { $(NO_SLURM); }; \
	set -ex; runs=$$(mktemp -d); trap 'rm -rf "$$runs"' EXIT; \
	tests/support/slurm.sh run $(BIN)/pdefm run suites/smoke.yaml --model fno-64k --output "$$runs" \
		--executor slurm --executor-set tasks=2 --executor-set poll=1; \
	$(BIN)/python -m tests.support.same_records runs/smoke "$$runs"

# The tests of executors and fits on a Slurm of two nodes on this machine: about five minutes.
test-slurm: $(STAMP)
	@tests/support/slurm.sh install || { $(NO_SLURM); }; \
	$(BIN)/python -m pytest -m slurm tests/run/test_executors.py tests/plugins/slurm/test_slurm.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation site, in site/. Warnings are errors, those about docstrings included.
docs: $(STAMP)
	test -x $(BIN)/zensical || $(BIN)/python -m pip install --quiet --editable '.[docs]' --constraint constraints.txt
	$(BIN)/zensical build --strict --clean > $(VENV)/docs.log 2>&1 || { cat $(VENV)/docs.log; exit 1; }
	! grep '^griffe:' $(VENV)/docs.log

# Prints most tables of docs/performance.md; raw figures go to benchmarks/results/. Without neuraloperator its rows are left out.
bench: $(STAMP)
	-$(BIN)/python -m pip install --quiet --editable '.[peers]' --constraint constraints.txt
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/data.py --json
	$(BIN)/python benchmarks/step.py --json
	$(BIN)/python benchmarks/scale.py --json
	$(BIN)/python benchmarks/learning_curve.py --json
	$(BIN)/python benchmarks/precision.py --json
	$(BIN)/python benchmarks/startup.py --json

leaderboard: $(STAMP)
	$(BIN)/pdefm leaderboard build
	$(BIN)/pdefm leaderboard check

check-leaderboard: $(STAMP)
	$(BIN)/pdefm leaderboard check

clean:
	rm -rf $(VENV) runs site
