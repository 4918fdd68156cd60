# `make book` and `make test` work in a fresh clone. Each step sets up what it needs and skips what is up to date.

PYTHON  ?= python3
PORT    ?= 8000
ARGS    ?=
BIN     := .venv/bin
MATHJAX := book/_static/mathjax
MATHJAX_VERSION := 3.2.2
MATHJAX_SHA256  := 1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
OLDEST_TORCH := 2.6.0
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')
DATA := cifar10 mr imdb minilm-l6 mobilenet-v2 mobilenet-v2-bottleneck efficientnet-lite0 squeezenet
CORE_TESTS := -m pytest -q --noconftest -p no:cacheprovider @tests/core.txt
AXE     := .venv/axe-core
AXE_VERSION := 4.11.0
AXE_SHA256  := 39bed7d72308f6d620789c169d699bfd7e8da80f65b545821a6b2215c3e83107

.NOTPARALLEL:
.PHONY: help setup book pdf check test test-core test-oldest links bench gpu classroom serve place deploy wheel clean data \
        mathjax axe notebooks

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | while IFS='|' read -r name what; do printf 'make %-12s %s\n' "$$name" "$$what"; done

setup: .venv/ready  ## make .venv, or update it

test: .venv/peers .venv/extras mathjax axe  ## run every test (ARGS=... for pytest)
	@echo "test: running pytest"
	@$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(ARGS)

test-core:  ## run the tests of the core with another Python, with which advtransfer is installed (PYTHON=...)
	@$(PYTHON) $(CORE_TESTS) $(ARGS)

test-oldest:  ## run the tests of the core with the oldest torch that it supports, in .venv-oldest
	@test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet 'torch==$(OLDEST_TORCH)' 'numpy<2.3' -e . hypothesis pytest
	@.venv-oldest/bin/python $(CORE_TESTS) $(ARGS)

bench: .venv/peers  ## compare the speed of the attacks with other libraries (ARGS=... for benchmarks/bench.py)
	@echo "bench: a quiet machine gives quiet numbers; half an hour on two fast cores, more on slow ones"
	@$(BIN)/python benchmarks/bench.py $(ARGS)

gpu:  ## on a CUDA machine, in at most nine minutes: its tests, its speeds, Table 1 at the released widths (ARGS=...)
	@PYTHONPATH=lib $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py $(ARGS)

book: .venv/ready data mathjax notebooks  ## execute the notebooks that have changed, and build the pages
	@echo "book: rendering the pages to _build/html"
	@rm -rf _build/html/_modules  # which Sphinx keeps even if the theme or a script has changed
	@COMPANION_PDF=$(if $(CHROMIUM),companion.pdf) $(BIN)/jupyter-book build . -W -n --keep-going || \
	    { rm -rf _build/.doctrees; exit 1; }
	@$(if $(CHROMIUM),$(MAKE) --no-print-directory pdf,echo "book: no Chromium here, so there is no PDF of the whole")

pdf: .venv/ready  ## print the built pages into one PDF (needs Chromium)
	@$(BIN)/python book/print_pdf.py

check: .venv/ready axe  ## check the built pages: every link inside the book, and each page in the browser
	@test -f _build/html/index.html || { echo "check: no pages yet; run make book first" >&2; exit 1; }
	@COMPANION_HTML=_build/html $(BIN)/python -m pytest tests/test_links.py tests/test_pages.py $(ARGS)

links: .venv/ready  ## check every web address to which the book links
	@PYTHONPATH=book/_ext $(BIN)/python book/check_links.py

classroom: .venv/extras  ## make all editions of the assignments, in _build/classroom
	@$(BIN)/python -m advtransfer classroom release

serve:  ## show the built pages on http://localhost:8000 (PORT=...)
	@test -f _build/html/index.html || { echo "serve: no pages yet; run make book first" >&2; exit 1; }
	@echo "serve: http://localhost:$(PORT), until Ctrl-C"
	@$(PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

place: .venv/ready  ## write the place of publication, set in _config.yml, into the files that name it
	@$(BIN)/python book/_ext/place.py

# One commit without a history, in an index of its own: neither the branch nor the files of the checkout change.
deploy:  ## publish the built pages: put them on the branch gh-pages of origin, which GitHub Pages shows
	@test -f _build/html/index.html || { echo "deploy: no pages yet; run make book first" >&2; exit 1; }
	@touch _build/html/.nojekyll
	@export GIT_INDEX_FILE=$$(mktemp -d)/index; git --git-dir=.git --work-tree=_build/html add --all --force && \
	    pages=$$(git commit-tree -m "The book of $$(git rev-parse --short HEAD)" $$(git write-tree)) && \
	    git push --quiet --force origin $$pages:refs/heads/gh-pages && echo "deploy: $$(git ls-tree -r $$pages | wc -l) files"

wheel:  ## build the source distribution and the wheel in dist, and test the wheel in an environment of its own
	@rm -rf dist .venv-wheel && $(PYTHON) -m venv .venv-wheel
	@.venv-wheel/bin/python -m pip install --quiet -c constraints.txt build torch
	@.venv-wheel/bin/python -m build
	@.venv-wheel/bin/python -m pip install --quiet -c constraints.txt dist/*.whl hypothesis pytest
	@.venv-wheel/bin/python $(CORE_TESTS) $(ARGS)

clean:  ## remove the pages and the executed notebooks (not .venv, not the cache)
	rm -rf _build dist notebooks/*.ipynb notebooks/*.html notebooks/*.record

# The stamps are written last, so that an interrupted installation is done again.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "setup: $(PYTHON) is older than Python 3.11; use make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "setup: making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "setup: installing torch"
	@$(BIN)/python -m pip install --quiet -c constraints.txt torch
	@echo "setup: installing advtransfer and what it needs"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[book,test]'
	@touch $@

.venv/peers: .venv/ready tests/peers.txt
	@echo "setup: installing the libraries that the tests compare with"
	@$(BIN)/python -m pip install --quiet --no-deps -r tests/peers.txt
	@touch $@

.venv/extras: .venv/ready
	@echo "setup: installing what assignments, Dask and Slurm need"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[classroom,dask,slurm]'
	@touch $@

data: .venv/ready
	@echo "book: looking for $(DATA)"
	@$(BIN)/python -m advtransfer data fetch $(DATA) || echo "book: going on without what is missing; its page will say so"

notebooks: .venv/ready data
	@echo "book: executing the notebooks that changed"
	@$(BIN)/python -m advtransfer run --all

# Files from npm packages: the part of MathJax that the pages use (if it is missing, they load MathJax from its usual
# address), and the accessibility checker that the tests run in the pages. Each package is compared with its checksum, and
# its files are put in place all at once or not at all.
define npm  # name, version, sha256, folder, files
	rm -rf _build/npm && mkdir -p _build/npm/files $(dir $(4)) && cd _build/npm && \
	npm pack --silent $(1)@$(2) >/dev/null && echo "$(3)  $(1)-$(2).tgz" > sum && \
	{ sha256sum -c sum || shasum -a 256 -c sum; } >/dev/null 2>&1 && \
	tar xzf $(1)-$(2).tgz -C files --strip-components=1 $(addprefix package/,$(5)) && touch files/version-$(2) && \
	cd ../.. && rm -rf $(4) && mv _build/npm/files $(4)
endef

mathjax:
	@if test -f $(MATHJAX)/version-$(MATHJAX_VERSION); then :; \
	elif ! command -v npm >/dev/null; then echo "book: no npm here, so the pages will load MathJax from the network"; \
	else echo "book: fetching MathJax $(MATHJAX_VERSION)"; $(call npm,mathjax,$(MATHJAX_VERSION),$(MATHJAX_SHA256),$(MATHJAX),\
	    LICENSE es5/tex-mml-chtml.js es5/input/tex/extensions es5/output/chtml/fonts/woff-v2) || \
	    echo "book: could not fetch it, so the pages will load MathJax from the network"; \
	fi

axe:
	@if test -f $(AXE)/version-$(AXE_VERSION); then :; \
	elif ! command -v npm >/dev/null; then echo "test: no npm here, so accessibility is not checked"; \
	else echo "test: fetching axe-core $(AXE_VERSION)"; \
	    $(call npm,axe-core,$(AXE_VERSION),$(AXE_SHA256),$(AXE),LICENSE axe.min.js) || \
	    echo "test: could not fetch it, so accessibility is not checked"; \
	fi
