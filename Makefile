# One command from an empty folder: `make book` or `make test`. Each step sets up what it needs and skips what is fresh.

PYTHON  ?= python3
PORT    ?= 8000
ARGS    ?=
BIN     := .venv/bin
MATHJAX := book/_static/mathjax
MATHJAX_VERSION := 3.2.2
MATHJAX_SHA256  := 1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09

.PHONY: help setup book test bench serve clean data mathjax notebooks

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## /\1|/p' Makefile | while IFS='|' read -r name what; do printf 'make %-10s %s\n' "$$name" "$$what"; done

setup: .venv/ready  ## make .venv, or bring it up to date

test: .venv/peers  ## run every test (ARGS=... for pytest)
	@echo "test: running pytest"
	@$(BIN)/python -m pytest $(ARGS)

bench: .venv/peers  ## time the attacks beside other libraries (ARGS=... for benchmarks/bench.py)
	@echo "bench: a quiet machine gives quiet numbers; about 12 minutes on two cores"
	@$(BIN)/python benchmarks/bench.py $(ARGS)

book: .venv/ready data mathjax notebooks  ## execute the notebooks that changed and build the pages
	@echo "book: rendering the pages to _build/html"
	@$(BIN)/jupyter-book build . -W -n --keep-going || { rm -rf _build/.doctrees; exit 1; }

serve:  ## show the built pages on http://localhost:8000 (PORT=...)
	@test -f _build/html/index.html || { echo "serve: no pages yet; run make book first" >&2; exit 1; }
	@echo "serve: http://localhost:$(PORT), until Ctrl-C"
	@python3 -m http.server --directory _build/html $(PORT)

clean:  ## remove the pages and the executed notebooks (not .venv, not the cache)
	rm -rf _build notebooks/*.ipynb

# The stamps are written last: an installation that broke off is done again.
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

data: .venv/ready
	@for name in cifar10 mr imdb minilm-l6; do \
	    echo "book: looking for $$name"; \
	    $(BIN)/python -m advtransfer data fetch $$name || echo "book: going on without it; its page will say so"; \
	done

notebooks: .venv/ready data
	@echo "book: executing the notebooks that changed"
	@$(BIN)/python -m advtransfer run --all

# The part of MathJax that the pages use; without it they load it from its usual address.
mathjax:
	@if test -f $(MATHJAX)/es5/tex-mml-chtml.js; then :; \
	elif ! command -v npm >/dev/null; then echo "book: no npm here, so the pages will load MathJax from the network"; \
	else echo "book: fetching MathJax $(MATHJAX_VERSION)"; \
	    rm -rf _build/mathjax && mkdir -p _build/mathjax $(dir $(MATHJAX)) && cd _build/mathjax && \
	    npm pack --silent mathjax@$(MATHJAX_VERSION) >/dev/null && \
	    echo "$(MATHJAX_SHA256)  mathjax-$(MATHJAX_VERSION).tgz" > sum && \
	    { sha256sum -c sum || shasum -a 256 -c sum; } >/dev/null 2>&1 && mkdir mathjax && \
	    tar xzf mathjax-$(MATHJAX_VERSION).tgz -C mathjax --strip-components=1 package/LICENSE \
	        package/es5/tex-mml-chtml.js package/es5/input/tex/extensions package/es5/output/chtml/fonts/woff-v2 && \
	    mv mathjax ../../$(MATHJAX) || echo "book: could not fetch it, so the pages will load MathJax from the network"; \
	fi
