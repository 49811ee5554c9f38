# The entries of the board again, from the kit of images and weights (hours on one CPU core):
#   make -f leaderboard/entries.mk KIT=DIR cifar10 cifar10-autoattack imagenet imagenet-48 ...
# They are written below $(OUT), one after the other; a stopped run goes on where it was. One model:
# IMAGENET=mcunet_5fps. More images for the importance: N_SPECTRAL=48, with another OUT.
KIT ?= $(or $(IASIDE_KIT),../shared/kit)
OUT ?= build/entries
VENV ?= $(or $(VIRTUAL_ENV),.venv)
IASIDE := $(VENV)/bin/iaside
export IASIDE_KIT := $(KIT)
export OMP_NUM_THREADS ?= 1

N_SPECTRAL ?= 12  # of the 48 photographs: 255 passes each

CIFAR ?= c10_resnet56 c10_resnet20 c10_resnet2b_adv c10_cnn_a_adv c10_marabou_small c10_small_pgd \
	c10_wide_kw c10_base_kw
SMALL ?= mobilenet_v1_025_128 mcunet_5fps mbv2_w035
IMAGENET ?= resnet50_pqf_large resnet18_pqf resnet18_ktb_large squeezenet1_0_dc \
	mobilenet_v2_100_qat mobilenet_v1_075_192 $(SMALL)
TRAINED_ON := from a public sample of the training set: clean accuracies run above validation figures

.PHONY: cifar10 cifar10-autoattack imagenet imagenet-48 imagenet-robustbench
.DELETE_ON_ERROR:
cifar10: $(CIFAR:%=$(OUT)/cifar10/%.json)
cifar10-autoattack: $(CIFAR:%=$(OUT)/cifar10-autoattack/%.json)
imagenet: $(SMALL:%=$(OUT)/imagenet/%.json)
imagenet-48: $(IMAGENET:%=$(OUT)/imagenet-48/%.json)
imagenet-robustbench: $(SMALL:%=$(OUT)/imagenet-robustbench/%.json)

$(OUT)/cifar10/%.json:
	$(IASIDE) evaluate kit:$* --data $(KIT)/cifar10 --out $@ --resume $(@:.json=.run) \
		--attacks fgsm,pgd --epsilons 0.5/255,2/255,4/255,8/255 --cache $(OUT)/corrupted \
		--note "152 lossless images of the CIFAR-10 test set"

$(OUT)/cifar10-autoattack/%.json:  # the adapter's command takes one budget, its function several
	$(VENV)/bin/python -c 'from iaside_plugins.adapters.robustbench_adapter import evaluate; \
		evaluate("kit:$*", dataset="cifar10", threat_model="Linf", eps=[2 / 255, 8 / 255], \
		n_examples=152, n_spectral=None, batch_size=50, data_dir="$(KIT)/cifar10", \
		entry_path="$@", resume="$(@:.json=.run)", to_disk=False, \
		note="152 lossless images of the CIFAR-10 test set")'

$(OUT)/imagenet/%.json:
	$(IASIDE) evaluate kit:$* --data $(KIT)/images --out $@ --resume $(@:.json=.run) \
		--attacks fgsm,pgd --epsilons 0.5/255,2/255,4/255,8/255 --n-attack 200 \
		--reference alexnet_hendrycks_50k --cache $(OUT)/corrupted \
		--note "700 images of 700 classes $(TRAINED_ON)"

$(OUT)/imagenet-48/%.json:
	$(IASIDE) evaluate kit:$* --data $(KIT)/images --out $@ --resume $(@:.json=.run) \
		--n-images 48 --n-spectral $(strip $(N_SPECTRAL)) --n-attack 24 --batch-size 8 \
		--attacks fgsm,pgd --attack-steps 10 --epsilons 0.25/255,0.5/255,2/255 \
		--reference alexnet_hendrycks_50k --cache $(OUT)/corrupted \
		--note "48 images of 48 classes $(TRAINED_ON)"

$(OUT)/imagenet-robustbench/%.json:
	$(VENV)/bin/python -m iaside_plugins.adapters.robustbench_adapter --model kit:$* \
		--dataset imagenet --threat_model corruptions --n_ex 100 --data_dir $(KIT)/images \
		--corruptions_data_dir generate --cache $(OUT)/corrupted --device cpu --batch_size 50 \
		--entry_path $@ --resume $(@:.json=.run) --to_disk false \
		--note "Photographs of a public sample of the ImageNet training set, one per class: accuracies run above validation figures"
