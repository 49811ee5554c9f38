# The entries of the board and what its studies are made of, from the kit of images and weights:
#   make -f leaderboard/entries.mk KIT=DIR cifar10 autoattack views profiles explained attacked filters forecast photos ...
# Cheapest first; all is written below $(OUT), and a stopped run goes on where it was. How long each
# file took is in $(OUT)/seconds.txt. One model: CIFAR=c10_resnet20, PHOTOS=mcunet_5fps.
SHELL := /bin/bash
KIT ?= $(or $(IASIDE_KIT),../shared/kit)
OUT ?= build/entries
VENV ?= $(or $(VIRTUAL_ENV),.venv)
IASIDE := $(VENV)/bin/iaside
export IASIDE_KIT := $(KIT)
export OMP_NUM_THREADS ?= 1

CIFAR ?= c10_base_kw c10_marabou_small c10_small_pgd c10_abcrown_marabou_medium c10_abcrown_sigmoid_pgd \
	c10_kolter_cifar_small_36px c10_oval_cifar_sgd_8px c10_oval_cifar_madry_8px c10_cnn_a_adv c10_wide_kw \
	c10_abcrown_cifar_wide_adv c10_resnet2b_adv c10_vit_pgd_2_3_16 c10_mnbab_resnet_4b_bn_adv c10_sri_resnet_a \
	c10_biasfield_base c10_mlperf_resnet8 c10_resnet20 c10_recoloradv_stadv c10_recoloradv_recoloradv \
	c10_recoloradv_recoloradv_delta c10_recoloradv_delta c10_resnet56 resnet18_cifar10
PHOTOS ?= mobilenet_v1_025_128 mcunet_5fps mbv2_w035
LARGE ?= mobilenet_v1_075_192 mobilenet_v2_100_qat squeezenet1_0_dc efficientnet_lite0 efficientnet_lite1 \
	efficientnet_lite2 resnet18_pqf resnet18_ktb_large resnet50_pqf_large
spec = $(if $(filter resnet18_cifar10 efficientnet_%,$(1)),pip,kit):$(1)

# $(call timed,COMMAND): run it and note how many seconds it took, with those of its last run alone.
timed = mkdir -p $(@D); start=$$(date +%s); $(1) && echo "$@ $$(($$(date +%s) - start))" >> $(OUT)/seconds.txt

TARGETS := cifar10 autoattack views profiles explained attacked filters photos photos-large photos-autoattack \
	quantised temperature
.PHONY: forecast rerun $(TARGETS)
.DELETE_ON_ERROR:
cifar10: $(CIFAR:%=$(OUT)/cifar10/%.json)
autoattack: $(CIFAR:%=$(OUT)/autoattack/%.json)
views: $(CIFAR:%=$(OUT)/views/%.json)
profiles: $(foreach net,$(CIFAR),$(foreach one,8 4 12 round,$(OUT)/profiles/$(net)--$(one).npz))
explained: $(foreach net,$(CIFAR),$(foreach one,8 4 12 round seed1,$(OUT)/explained/$(net)--$(one).npz))
attacked: $(CIFAR:%=$(OUT)/attacked/%.npz)
filters: $(CIFAR:%=$(OUT)/filters/%.json)
photos: $(PHOTOS:%=$(OUT)/photos/%.json)
photos-large: $(LARGE:%=$(OUT)/photos/%.json)
photos-autoattack: $(PHOTOS:%=$(OUT)/photos-autoattack/%.json)

# The reference model of the mCE is evaluated first; its mCE is 100 %.
REFERENCE := c10_mlperf_resnet8
WITH = --resume $(OUT)/cifar10/$(1).run --attacks fgsm$(,)pgd \
	--epsilons 0.5/255$(,)1/255$(,)2/255$(,)4/255$(,)8/255 --explain --n-explain 100 --cache $(OUT)/corrupted \
	--note "222 lossless images of the CIFAR-10 test set"
$(OUT)/reference.json:
	$(call timed,$(IASIDE) evaluate kit:$(REFERENCE) --data $(KIT)/cifar10 --out $@ $(call WITH,$(REFERENCE)))
$(OUT)/cifar10/%.json: $(OUT)/reference.json
	$(call timed,$(IASIDE) evaluate $(call spec,$*) --data $(KIT)/cifar10 --out $@ $(call WITH,$*) --reference $<)

# Some of them once more, on another day, and what differs.
AGAIN ?= c10_base_kw c10_marabou_small c10_vit_pgd_2_3_16
rerun: $(AGAIN:%=$(OUT)/cifar10/%.json)
	$(MAKE) -f leaderboard/entries.mk KIT=$(KIT) VENV=$(VENV) OUT=$(OUT)/again CIFAR="$(AGAIN)" cifar10
	$(VENV)/bin/python tests/bench/bench_rerun.py $(OUT)/cifar10 $(OUT)/again/cifar10 \
		--json leaderboard/criteria/rerun.json

# The adapter's command takes one budget, its function several.
$(OUT)/autoattack/%.json:
	$(call timed,$(VENV)/bin/python -c 'from iaside_plugins.adapters.robustbench_adapter import evaluate; \
		evaluate("$(call spec,$*)"$(,) dataset="cifar10"$(,) threat_model="Linf"$(,) eps=[2 / 255$(,) 8 / 255]$(,) \
		n_examples=222$(,) n_spectral=None$(,) batch_size=50$(,) data_dir="$(KIT)/cifar10"$(,) \
		entry_path="$@"$(,) resume="$(@:.json=.run)"$(,) to_disk=False$(,) \
		note="222 lossless images of the CIFAR-10 test set")')

$(OUT)/views/%.json:
	$(call timed,$(IASIDE) heatmap $(call spec,$*) --data $(KIT)/cifar10 --n-images 100 --views \
		--resume $(@:.json=.run) --json $@ --plot $(@:.json=.png))

# Other choices of bands: NET--CHOICE.npz
choice = $(lastword $(subst --, ,$*))
net = $(firstword $(subst --, ,$*))
bands = $(if $(filter 4 12,$(choice)),n_bands=$(choice)$(,))band_norm=$(if $(filter round,$(choice)),euclidean,chebyshev)
seed = $(if $(filter seed1,$(choice)),1,0)
# Another seed would also choose other images: it gets the very ones of seed 0.
HUNDRED := $(OUT)/hundred
images = $(if $(filter seed1,$(choice)),$(HUNDRED),$(KIT)/cifar10 --n-images 100)
$(HUNDRED): $(OUT)/explained/$(firstword $(CIFAR))--8.npz
	$(VENV)/bin/python tests/bench/copy_images.py $< $(KIT)/cifar10 $@
$(CIFAR:%=$(OUT)/explained/%--seed1.npz): | $(HUNDRED)

$(OUT)/profiles/%.npz:
	$(call timed,$(IASIDE) profile $(call spec,$(net)) --data $(KIT)/cifar10 --n-images 100 --resume $(@:.npz=.run) \
		--protocol $(bands)$(,)estimator=$(if $(filter 12,$(choice)),permutation,exact) --save $@)

$(OUT)/explained/%.npz:
	$(call timed,$(IASIDE) explain $(call spec,$(net)) --data $(images) --resume $(@:.npz=.run) \
		--severities 3 --repair 0 --target-error 0 --protocol $(bands)$(,)estimator=permutation$(,)seed=$(seed) \
		--seed $(seed) --save $@)

$(OUT)/attacked/%.npz:
	$(call timed,$(IASIDE) explain $(call spec,$*) --data $(KIT)/cifar10 --n-images 100 --resume $(@:.npz=.run) \
		--corruptions none --attacks pgd --epsilons 2/255$(,)8/255 --repair 0 --target-error 0 --save $@)

$(OUT)/filters/%.json:
	$(call timed,$(VENV)/bin/python tests/bench/bench_filters.py $(call spec,$*) \
		--data $(KIT)/cifar10 --n-images 100 --out $@)

# Forecasts of what the entries measured, of the importance that their runs stored: no passes. Spectra
# of corruptions are shipped of 32 and 224 pixels.
AT_224 ?= mobilenet_v2_100_qat squeezenet1_0_dc efficientnet_lite0 resnet18_pqf resnet18_ktb_large resnet50_pqf_large
FORECAST = $(call timed,$(VENV)/bin/python tests/bench/bench_forecast.py $(<D) --entries --dataset $(1) \
	--models $(subst $() ,$(,),$(basename $(notdir $^))) --json $@)
forecast: $(OUT)/forecast-cifar10.json $(OUT)/forecast-photos.json
$(OUT)/forecast-cifar10.json: $(CIFAR:%=$(OUT)/cifar10/%.json)
	$(call FORECAST,cifar10)
$(OUT)/forecast-photos.json: $(AT_224:%=$(OUT)/photos/%.json)
	$(call FORECAST,imagenet)

# All photographs for the small networks, 200 of them for the others.
$(LARGE:%=$(OUT)/photos/%.json): SOME := --n-images 200 --n-spectral 48 --n-explain 24 --n-attack 48
$(PHOTOS:%=$(OUT)/photos/%.json): SOME := --n-explain 100 --n-attack 200
PHOTOGRAPHS := photographs of the NIPS 2017 adversarial competition: no training images
$(OUT)/photos/%.json:
	$(call timed,$(IASIDE) evaluate $(call spec,$*) --data $(KIT)/photos --out $@ --resume $(@:.json=.run) $(SOME) \
		--attacks fgsm$(,)pgd --epsilons 0.25/255$(,)0.5/255$(,)2/255$(,)8/255 --explain \
		--reference alexnet_hendrycks_50k --cache $(OUT)/corrupted --note "$(PHOTOGRAPHS)")

$(OUT)/photos-autoattack/%.json:
	$(call timed,$(VENV)/bin/python -c 'from iaside_plugins.adapters.robustbench_adapter import evaluate; \
		evaluate("kit:$*"$(,) dataset="imagenet"$(,) threat_model="Linf"$(,) eps=[0.25 / 255$(,) 0.5 / 255]$(,) \
		n_examples=450$(,) n_spectral=None$(,) batch_size=50$(,) data_dir="$(KIT)/photos"$(,) \
		entry_path="$@"$(,) resume="$(@:.json=.run)"$(,) to_disk=False$(,) note="$(PHOTOGRAPHS)")')

# Studies of quantised networks and of temperatures.
QUANTISED ?= c10_resnet2b_adv c10_sri_resnet_a c10_biasfield_base c10_mlperf_resnet8 mobilenet_v1_025_128 \
	c10_resnet20 mcunet_5fps
TEMPERED ?= $(CIFAR) $(PHOTOS)
quantised: $(QUANTISED:%=$(OUT)/quantised/%.json)
temperature: $(TEMPERED:%=$(OUT)/temperature/%.json)
of_cifar = $(filter $(CIFAR) c10_% %_cifar10,$*)
pictures = $(KIT)/$(if $(of_cifar),cifar10,photos)

$(OUT)/quantised/%.json:
	$(call timed,$(VENV)/bin/python tests/bench/bench_quantised.py $(call spec,$*) --data $(pictures) --out $@ \
		--cache $(OUT)/corrupted $(if $(of_cifar),--n-images 100 --bits 8$(,)4,--n-images 60 --n-systematic 100))

$(OUT)/temperature/%.json:
	$(call timed,$(VENV)/bin/python tests/bench/bench_temperature.py $(call spec,$*) --data $(pictures) --out $@ \
		$(if $(of_cifar),--epsilon 2/255,--epsilon 0.25/255 --n-images 200))

, := ,
