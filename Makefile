# SPDX-License-Identifier: Apache-2.0
#
# The verbs of development. Each works from a clean checkout, twice in a row. `make` alone lists them.

SHELL := /bin/sh
export CGO_ENABLED := 0

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Kernels of test/kernels.txt that `make test` boots.
KERNELS := 6.1 6.12
# One kernel, or all: make vmtest KERNEL=6.12
KERNEL  ?= $(KERNELS)
# Scenarios by regular expression: make vmtest RUN=exec_
RUN     ?= .
# Execs of the storm scenario.
STORM   ?= 2000
VMSTORM ?= 300
# Rounds of the soak: processes, events of a policy, clients that come, stall and go.
SOAK    ?= 12
FUZZTIME ?= 30s
# Policies that the user's document names. Not in the tree: where they are not, their scenario is skipped.
CORPUS   ?= $(abspath $(CURDIR)/../shared/corpus/policylibrary)

SUM   := $(GO) run ./tools/testsum
VMLAB := $(GO) run ./tools/vmlab

# Where `make run` leaves the events.
RUNDIR ?= /tmp/tetragon

.PHONY: help
help: ## list the verbs
	@echo "make VERB, where VERB is one of"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

.PHONY: run
run: build ## build and start the agent here, with the ready-made policies: events on the terminal, JSON in a file (root)
	@if [ "$$(id -u)" != 0 ]; then echo "make run: the agent needs root; run: sudo make run" >&2; exit 1; fi
	@mkdir -p $(RUNDIR)
	@echo "events as JSON: $(RUNDIR)/tetragon.log     stop with Ctrl-C" >&2
	@exec bin/tetragon --export-filename=$(RUNDIR)/tetragon.log --export-stdout=compact --ready-made-policies=all $(ARGS)

.PHONY: test
test: ## install what tests need, and run all of them: check, unit, hosttest, vmtest, stress, icount (root)
	@tools/setup.sh
	@$(SUM) 'check: $(MAKE) -s check' 'unit: $(MAKE) -s unit' 'hosttest: $(MAKE) -s hosttest' \
		'vmtest: $(MAKE) -s vmtest' 'stress: $(MAKE) -s stress N=200' 'icount: $(MAKE) -s icount'

.PHONY: build
build: ## build bin/tetragon and bin/tetra; needs Go alone
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/tetragon ./cmd/tetragon
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/tetra ./cmd/tetra

.PHONY: generate
generate: ## make what is generated: BPF objects (clang-19), layouts, encoders
	$(GO) generate ./...
	$(GO) run ./tools/abigen

.PHONY: check
check: ## format, vet, linters, rules of the repository, generated files up to date
	@$(SUM) \
		'gofmt: f=$$(gofmt -l .); [ -z "$$f" ] || { echo "not formatted; run gofmt -w:"; echo "$$f"; exit 1; }' \
		'clang-format: tools/cformat.sh' \
		'vet: $(GO) vet ./...' \
		'staticcheck: $(GO) tool staticcheck ./...' \
		'repository: $(GO) test -count=1 -v .' \
		'generated: tools/fresh.sh'

# Not part of check: see docs/decisions/0002-linters.md.
.PHONY: lint
lint: ## all linters of .golangci.yml; builds golangci-lint the first time, which takes minutes
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0 run

.PHONY: unit
unit: ## what needs no root and no particular kernel
	@$(SUM) 'unit: $(GO) test -v $$($(GO) list ./... | grep -vx tetragon)'

# What runs in a guest and here: the same static binaries.
bin/scenario.test: FORCE
	@mkdir -p bin
	@$(GO) test -c -o $@ ./internal/scenario

bin/sensor.test: FORCE
	@mkdir -p bin
	@$(GO) test -c -o $@ ./internal/sensor

bin/victim: FORCE
	@mkdir -p bin
	@$(GO) build -trimpath -o $@ ./test/victim

# The same agent as another version, which lays out its maps in another way: for upgrades.
bin/tetragon-next: FORCE
	@mkdir -p bin
	@$(GO) build -trimpath -ldflags '-s -w -X main.version=next -X tetragon/internal/sensor.salt=next' -o $@ ./cmd/tetragon

.PHONY: FORCE
FORCE:

SCENARIO_ENV = TETRAGON_BIN=$(1)/bin/tetragon TETRA_BIN=$(1)/bin/tetra VICTIM_BIN=$(1)/bin/victim \
	SCENARIO_DIR=$(1)/test/scenario SCENARIO_MATRIX=$(1)/test/kernels.txt SCENARIO_POLICIES=$(1)/policies \
	$(if $(wildcard $(CORPUS)),SCENARIO_CORPUS=$(if $(filter /lab,$(1)),/lab/corpus,$(CORPUS)))

.PHONY: hosttest
hosttest: build bin/tetragon-next bin/scenario.test bin/victim ## the scenarios on this machine's own kernel [RUN=...] (root)
	@$(SUM) 'hosttest: env $(call SCENARIO_ENV,$(CURDIR)) SCENARIO_KERNEL=host SCENARIO_STORM=$(STORM) \
		bin/scenario.test -test.v -test.parallel=1 -test.timeout=15m -test.run "Test(Features|Scenarios)/$(RUN)"' \
		$(if $(filter .,$(RUN)),'soak and quick start: cd internal/scenario && env $(call SCENARIO_ENV,$(CURDIR)) SCENARIO_KERNEL=host SCENARIO_SOAK=$(SOAK) \
		$(CURDIR)/bin/scenario.test -test.v -test.timeout=30m -test.run "Test(Soak|Quickstart)$$"')

# The guest gets a copy of what the tests need at /lab, laid out like the repository.
LAB := bin/lab
.PHONY: lab
lab: build bin/tetragon-next bin/scenario.test bin/sensor.test bin/victim
	@rm -rf $(LAB) && mkdir -p $(LAB)/bin $(LAB)/test
	@cp bin/tetragon bin/tetragon-next bin/tetra bin/victim bin/scenario.test bin/sensor.test $(LAB)/bin/
	@cp -r test/scenario test/kernels.txt $(LAB)/test/
	@cp -r policies $(LAB)/
	@[ ! -d $(CORPUS) ] || cp -r $(CORPUS) $(LAB)/corpus

# What can be tested of hooks only where functions can be hooked, and the features that must be found there.
SENSOR_TESTS := TestAttach|TestManager_(life|noGap|classes$$|undo|price|digests)
FEATURES = $(shell awk '$$1 == "$(1)" { $$1 = $$2 = ""; print }' test/kernels.txt)

.PHONY: vmtest
vmtest: lab ## the scenarios in virtual machines [KERNEL=6.12] [RUN=...] (root the first time)
	@$(SUM) -p 2 $(foreach k,$(KERNEL),'vmtest $(k): $(VMLAB) run --kernel $(k) --share $(LAB):/lab --timeout 30m -- \
		env $(call SCENARIO_ENV,/lab) SCENARIO_KERNEL=$(k) SCENARIO_STORM=$(VMSTORM) \
		/lab/bin/scenario.test -test.v -test.parallel=1 -test.timeout=28m -test.run "Test(Features|Scenarios)/$(RUN)"') \
		$(if $(filter .,$(RUN)),$(foreach k,$(KERNEL),'sensor $(k): $(VMLAB) run --kernel $(k) --share $(LAB):/lab --timeout 30m -- \
		env SENSOR_FEATURES="$(call FEATURES,$(k))" /lab/bin/sensor.test -test.v -test.timeout=28m -test.run "$(SENSOR_TESTS)"'))

# Two versions, so that one can be upgraded to the other.
PACKAGES := bin/package
.PHONY: package
package: build ## an archive with install.sh, and a Debian package, in bin/package; needs dpkg-deb
	@tools/package.sh $(VERSION) $(PACKAGES)

.PHONY: packagetest
packagetest: package ## install, upgrade and remove the packages in a virtual machine that runs systemd [KERNEL=6.12] (root the first time)
	@mkdir -p $(PACKAGES)/lab && tools/package.sh 0.0.0 $(PACKAGES)/lab/old >/dev/null
	@rm -f $(PACKAGES)/lab/*.deb $(PACKAGES)/lab/*.tar.gz
	@mv $(PACKAGES)/lab/old/*.deb $(PACKAGES)/lab/old.deb && rm -r $(PACKAGES)/lab/old
	@cp $(PACKAGES)/*.deb $(PACKAGES)/lab/new.deb && cp $(PACKAGES)/*.tar.gz $(PACKAGES)/lab/archive.tar.gz
	@cp test/package/life.sh $(PACKAGES)/lab/
	@$(SUM) $(foreach k,$(firstword $(filter 6.12,$(KERNEL)) $(KERNEL)),'package $(k): $(VMLAB) run --systemd --kernel $(k) --share $(PACKAGES)/lab:/pkg --timeout 25m -- \
		/pkg/life.sh /pkg/old.deb /pkg/new.deb /pkg/archive.tar.gz')

# Tries of what is denied, tries of one process, how often something happens to the agent meanwhile, and what.
N      ?= 1000
EACH   ?=
ROUNDS ?=
SEED   ?=
.PHONY: stress
stress: lab ## denied operations on two CPUs while the agent is killed, upgraded, ... [KERNEL=6.1] [N=1000] [EACH=25] [ROUNDS=4] [SEED=...]
	@$(SUM) -p 2 $(foreach k,$(KERNEL),'stress $(k): $(VMLAB) run --kernel $(k) --smp 2 --share $(LAB):/lab --timeout 60m -- \
		env $(call SCENARIO_ENV,/lab) SCENARIO_KERNEL=$(k) SCENARIO_STRESS=$(N) SCENARIO_SEED=$(SEED) SCENARIO_ROUNDS=$(ROUNDS) SCENARIO_EACH=$(EACH) \
		/lab/bin/scenario.test -test.v -test.timeout=59m -test.run "TestStress$$"')

# Events a second, and for how many seconds. It measures: on a machine that does other things besides, they are in the figures.
LOADRATE ?= 50000
LOADTIME ?= 60
.PHONY: load
load: build bin/scenario.test bin/victim ## many events a second to a file and two clients, and an idle minute: what they cost, and that none is lost (root)
	@cd internal/scenario && env $(call SCENARIO_ENV,$(CURDIR)) SCENARIO_KERNEL=host SCENARIO_LOAD=$(LOADRATE) SCENARIO_LOAD_TIME=$(LOADTIME) \
		$(CURDIR)/bin/scenario.test -test.v -test.timeout=15m -test.run 'TestLoad$$'

.PHONY: icount
icount: lab ## count instructions per fork, exec and exit in a virtual machine, and hold them to their limits
	@$(SUM) -p 2 $(foreach t,TestInstructions TestInstructions_policies,'$(t): $(VMLAB) run --kernel 6.12 --icount --share $(LAB):/lab --timeout 15m -- \
		env $(call SCENARIO_ENV,/lab) SCENARIO_KERNEL=6.12 SCENARIO_ICOUNT=1 \
		/lab/bin/scenario.test -test.v -test.timeout=14m -test.run "$(t)$$"')

.PHONY: loading
loading: lab ## count instructions until 500 hooks are in force, in a virtual machine as for icount [KERNEL=6.1]
	@$(SUM) $(foreach k,$(KERNEL),'loading $(k): $(VMLAB) run --kernel $(k) --icount --share $(LAB):/lab --timeout 15m -- \
		env $(call SCENARIO_ENV,/lab) SCENARIO_KERNEL=$(k) SCENARIO_ICOUNT=1 \
		/lab/bin/scenario.test -test.v -test.timeout=14m -test.run "TestInstructions_loading$$"')

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=30s
	@tools/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## the benchmarks: time, bytes and allocations per event
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...

.PHONY: clean
clean: ## remove what was built; downloads stay in ~/.cache/tetragon
	rm -rf bin
