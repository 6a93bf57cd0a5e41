# For newcomers: `make demo`, `make test`, `make help`. Each makes .venv and installs what it needs.
PYTHON ?= $(or $(firstword $(foreach p,python3.11 python3.10 python3,$(shell command -v $(p)))),python3)
VENV := .venv
BIN := $(VENV)/bin
WORK := demo/work
DOMAINS := movie_reviews amazon_reviews tweets editorials
export TF_CPP_MIN_LOG_LEVEL ?= 3

ACTIVATE = source $(VENV)/bin/activate

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-serve demo-meta pretrain-demo $(DOMAINS:%=demo-pack-%) test test-faults test-hostile audit test-gpu check quality quality-defaults quality-methods quality-peer meta-quality \
  bench bench-drop bench-packs bench-serving bench-pretraining bench-meta bench-scaling interop profile acceptance paper-small clean

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 10), (3, 11)) else \
	  "error: Python 3.10 or 3.11 is needed, $(PYTHON) is %d.%d; run make PYTHON=/path/to/python3.11" % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/pyvenv.cfg requirements.txt pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# The flags for training on one domain of the demo's sentences.
TRAIN = $(BIN)/python run_classifier.py --task_name=custom --text_column=sentence --label_column=label \
	  --max_seq_length=64 --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)" \
	  --do_train --do_eval --num_train_epochs=2 --eval_batch_size=32

# A real BERT learns whether a film review is positive, in minutes.
demo: $(VENV)/.installed  ## download a small BERT and film reviews, train adapters, show what they learned
	$(BIN)/python demo/prepare.py
	$(TRAIN) --data_dir=$(WORK)/movie_reviews --output_dir=$(WORK)/movie_sentiment
	$(BIN)/python demo/classify.py --run=$(WORK)/movie_sentiment \
	  "A warm, funny film that I would watch again." \
	  "Two hours of my life that nobody gives back." \
	  "The plot is thin, but the actors carry it."
	@printf '%s\n' "" "Predict texts of your own:" "" "  $(ACTIVATE)" \
	  "  adapter-bert predict $(WORK)/movie_sentiment --bert_dir=demo --text='A film to remember.'" ""

# The same BERT learns the texts of all four domains, a few of their words masked: how well it guesses them, before and after.
MASKED = --max_seq_length=64 --max_predictions_per_seq=10
PRETRAIN = $(BIN)/python run_pretraining.py $(MASKED) --input_file=$(WORK)/corpus/train.tfrecord \
	  --eval_input_file=$(WORK)/corpus/held_out.tfrecord --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)" \
	  --learning_rate=1e-3 --bias_correction --adapter_init_stddev=2e-2 --num_train_steps=400 --num_warmup_steps=40 \
	  --eval_batch_size=32 --do_eval
pretrain-demo: $(VENV)/.installed-dev  ## train that BERT further on plain text
	$(BIN)/python demo/prepare.py --corpus
	for part in train held_out; do \
	  $(BIN)/python create_pretraining_data.py $(MASKED) --input_file=$(WORK)/corpus/$$part.txt --dupe_factor=2 \
	    --output_file=$(WORK)/corpus/$$part.tfrecord \
	    --vocab_file="$$($(BIN)/python demo/prepare.py --bert_dir_only)"/vocab.txt || exit; \
	done
	$(PRETRAIN) --output_dir=$(WORK)/domain_before
	$(PRETRAIN) --output_dir=$(WORK)/domain --do_train
	@loss() { sed -n 's/^masked_lm_loss = //p' $(WORK)/$$1/eval_results.txt; } && \
	  echo "masked_lm_loss on held-out text: $$(loss domain_before) before, $$(loss domain) after" && \
	  awk "BEGIN { exit !($$(loss domain) < $$(loss domain_before)) }"

# Adapters learn on two domains, and a third chooses, how to learn a new one from a few examples: tweets, from nothing, 8 and 16 of them.
META_DATA = --data=$(WORK)/dataset.json --test_domains=tweets --validation_domains=editorials --max_seq_length=64
FEW_SHOTS = $(BIN)/python run_finetuning.py $(META_DATA) --shots=0,8,16 --num_test_task=20 --num_query=100 \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"
demo-meta: $(VENV)/.installed  ## learn a new domain from a few examples
	$(BIN)/python demo/prepare.py --tables
	$(BIN)/python -m adapter_bert dataset $(WORK)/domains $(WORK)/dataset.json --text_column=sentence --label_column=label
	$(BIN)/python run_meta_training.py $(META_DATA) --epochs=2 --num_support=32 --inner_update_step=5 \
	  --outer_update_lr=3e-3 --num_test_task=10 \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)" --output_dir=$(WORK)/meta
	$(FEW_SHOTS) --output_dir=$(WORK)/few_plain
	$(FEW_SHOTS) --output_dir=$(WORK)/few_meta --pack=$(WORK)/meta/pack
	@printf '%s\n' "" "Tweets, which neither has seen, right answers of 100 after so many labelled examples:" ""
	@$(BIN)/python -m adapter_bert compare $(WORK)/few_meta/results.json $(WORK)/few_plain/results.json \
	  --names="meta-trained,plain base"
	@printf '%s\n' "" "The pack that any new task can start from: $(WORK)/meta/pack; how it was learned:" \
	  "$(WORK)/meta/learning_curve.png; every draw: $(WORK)/few_meta/results.json"

# It learns the same of each domain, a pack each; one server answers for all until Ctrl-C (PORT=8502: elsewhere).
PORT ?= 8501
demo-serve: $(DOMAINS:%=demo-pack-%)  ## train four tasks and serve them from one BERT (PORT=8501)
	@printf '%s\n' "The page is http://127.0.0.1:$(PORT)/ as soon as the server says so; or ask with curl:" "" \
	  "  curl -d '{\"instances\": [\"A warm, funny film.\"]}' http://127.0.0.1:$(PORT)/v1/models/movie_reviews:predict" \
	  "  curl -d '{\"instances\": [\"ugh, missed my bus again\"]}' http://127.0.0.1:$(PORT)/v1/models/tweets:predict" ""
	exec $(BIN)/python -m adapter_bert serve --hub=$(WORK)/hub --host=127.0.0.1 --port=$(PORT) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

# Where `make demo` has learned the film reviews, they are not learned again.
TEXTS_movie_reviews := film reviews
TEXTS_amazon_reviews := product reviews on Amazon
TEXTS_tweets := tweets
TEXTS_editorials := editorials of the New York Times
$(DOMAINS:%=demo-pack-%): demo-pack-%: $(VENV)/.installed
	$(BIN)/python demo/prepare.py --domains $*
	$(TRAIN) --data_dir=$(WORK)/$* --output_dir=$(WORK)/$(*:_reviews=)_sentiment --pack_dir=$(WORK)/packs/$*.zip \
	  --pack_description="Whether a sentence is positive or negative, learned from $(TEXTS_$*)."
	$(BIN)/python -m adapter_bert pack push --overwrite $(WORK)/packs/$*.zip $(WORK)/hub

test: $(VENV)/.installed-dev  ## run the tests
	$(BIN)/python -m pytest -m "not long" -n auto --dist worksteal

# What a run survives: kills at random moments, full disks, broken files; the long tests too, minutes.
test-faults: $(VENV)/.installed-dev  ## run the tests with kills, full disks and damaged files; minutes
	$(BIN)/python -m pytest -m faults -n auto --dist worksteal

# Hostile requests, packs, hubs and clients; the long ones too.
HOSTILE := tests/test_hostile_requests.py tests/test_hostile_packs.py tests/test_connections.py tests/test_origin.py \
  tests/test_plain_text.py tests/test_hub.py tests/test_server.py tests/test_attacks.py tests/test_addresses.py
test-hostile: $(VENV)/.installed-dev  ## run the tests with hostile requests, packs and hubs
	$(BIN)/python -m pytest $(HOSTILE) -n auto --dist worksteal

# Known vulnerabilities of the pinned requirements, by PyPI's records; needs the network.
audit:  ## look up known vulnerabilities of the pinned requirements
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt

# What needs a GPU, where TensorFlow sees one; says so where it sees none.
test-gpu: $(VENV)/.installed-dev  ## run the tests that need a GPU
	$(BIN)/python -m pytest -m gpu -rs

# Style, types, the direction of imports, and the tests that need no whole run.
check: $(VENV)/.installed-dev  ## check style, types and imports, and run the fast tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow and not long" -n auto --dist worksteal

# Dev scores into docs/results; hours. GLUE is a folder with CoLA, MRPC, SST-2, STS-B; SQUAD one with
# train.json and dev.json in SQuAD's form.
GLUE ?= ../shared/data/glue
SQUAD ?= ../shared/data/squad
quality: $(VENV)/.installed  ## measure dev scores on GLUE and SQuAD; hours
	$(BIN)/python benchmarks/quality.py --glue_dir=$(GLUE) --squad_dir=$(SQUAD) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

# Runs with default flags, ten seeds per task, into docs/results/defaults.json; an hour, resumable.
NER ?= ../shared/data/ner/wnut17
quality-defaults: $(VENV)/.installed  ## dev scores with default flags
	$(BIN)/python demo/prepare.py --domains movie_reviews
	$(BIN)/python benchmarks/default_quality.py --glue_dir=$(GLUE) --ner_dir=$(NER) --reviews=$(REVIEWS) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)" $(if $(ROWS),--only="$(ROWS)")

# Every method with default flags, three seeds of four tasks, into docs/results/methods.json; 1.5 hours, resumable.
quality-methods: $(VENV)/.installed  ## scores, sizes and speeds of all methods; hours
	$(BIN)/python benchmarks/method_quality.py --glue_dir=$(GLUE) --ner_dir=$(NER) --reviews=$(REVIEWS) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)" $(if $(ROWS),--only="$(ROWS)")

# Plain against meta-trained starts on new domains, into docs/results; hours. REVIEWS is Meta-BERT's dataset.json.
REVIEWS ?= ../shared/data/reviews/dataset.json
meta-quality: $(VENV)/.installed  ## measure meta-trained starts on new domains; hours
	$(BIN)/python benchmarks/meta_quality.py --data=$(REVIEWS) $(if $(ROWS),--only=$(ROWS)) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

$(VENV)-bench/.installed: requirements-bench.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

# Dev scores against the library `adapters`, five tasks, into docs/results/peers.json; hours. ROWS=NER,SQuAD: only these.
quality-peer: $(VENV)/.installed $(VENV)-bench/.installed  ## measure dev scores beside the library `adapters`; hours
	$(BIN)/python benchmarks/peer_comparison.py --glue_dir=$(GLUE) --ner_dir=$(NER) --squad_dir=$(SQUAD) \
	  $(if $(ROWS),--only=$(ROWS)) --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"
	$(BIN)/python benchmarks/peer_comparison.py --verdict $(if $(ROWS),--only=$(ROWS))

# Speed against the library `adapters`, side by side, into docs/benchmarks; an hour.
bench: $(VENV)/.installed $(VENV)-bench/.installed  ## measure training speed against the library `adapters`; an hour
	bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)" && missed=0 && \
	for one in "speed.py$(if $(ROWS), --only=$(ROWS))" tokenize_speed.py time_to_accuracy.py; do \
	  $(BIN)/python benchmarks/$$one --glue_dir=$(GLUE) --bert_dir="$$bert_dir" || missed=1; \
	done && exit $$missed

# A pack in the library `adapters`, and its adapters here: the same logits, the same weights.
interop: $(VENV)/.installed $(VENV)-bench/.installed  ## exchange a pack with the library `adapters` and compare
	$(BIN)/python benchmarks/interop.py --glue_dir=$(GLUE) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)" $(if $(RUN),--run=$(RUN))

# AdapterDrop: training without the adapters of the lower half of the layers.
bench-drop: $(VENV)/.installed  ## measure AdapterDrop
	$(BIN)/python benchmarks/adapter_drop.py --glue_dir=$(GLUE) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

# A hub of 500 packs, listed and searched; a pack put into a built graph.
bench-packs: $(VENV)/.installed  ## measure a hub of 500 packs
	$(BIN)/python benchmarks/packs_speed.py \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

# Many tasks from one BERT: against one task and the library `adapters`; the server overloaded.
bench-serving: $(VENV)/.installed $(VENV)-bench/.installed  ## measure the server
	bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)" && missed=0 && \
	for one in serving_speed.py overload.py; do \
	  $(BIN)/python benchmarks/$$one --bert_dir="$$bert_dir" || missed=1; \
	done && exit $$missed

# Data for pre-training of a million sentences, those of REVIEWS.
bench-pretraining: $(VENV)/.installed-dev  ## measure the preparation of pre-training data
	$(BIN)/python benchmarks/pretraining_data_speed.py --reviews=$(REVIEWS) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

# Training in one process and in two, bytes a step, and a model of both.
bench-scaling: $(VENV)/.installed  ## measure training in two processes
	$(BIN)/python benchmarks/scaling.py --glue_dir=$(GLUE) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

# An outer step of meta-training: tasks side by side, and one after the other.
bench-meta: $(VENV)/.installed  ## measure meta-training
	$(BIN)/python benchmarks/meta_speed.py --reviews=$(REVIEWS) \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

# Where a training step's time goes.
profile: $(VENV)/.installed  ## show where the time of a training step goes
	$(BIN)/python benchmarks/step_profile.py --name=profile-minilm --least_share=0.45 \
	  --bert_dir="$$($(BIN)/python demo/prepare.py --bert_dir_only)"

# The paper's claim on the demo's base: a sweep of one to two hours on 2 cores, its tables and figures into docs/paper.
paper-small: $(VENV)/.installed  ## repeat the paper's comparison on the small BERT; 1 to 2 hours
	BERT_DIR="$$($(BIN)/python demo/prepare.py --bert_dir_only)" GLUE_DIR=$(GLUE) \
	  $(BIN)/python -m adapter_bert experiment experiments/paper_small.json --workers=2 \
	  --results=docs/paper/results --report=docs/paper

# Every claim with its command; `make acceptance ROWS=parity,xla` runs some.
acceptance: $(VENV)/.installed-dev  ## check every claim of the docs (ROWS=parity,xla for some)
	$(BIN)/python benchmarks/acceptance.py $(if $(ROWS),--only=$(ROWS))

clean:  ## remove .venv, the demo's files and build output
	rm -rf $(VENV) $(VENV)-bench $(VENV)-audit $(WORK) build *.egg-info
