#!/usr/bin/env bash
# Pretrain on several machines with torchrun. Run this on each of them, in any order, with its number from 0 on and
# the address of machine 0, which the others must reach; --batch-size counts the rows of all machines together.
#
#   bash recipes/distributed/torchrun.sh 0 10.0.0.1 --corpus corpus/ --out runs/two --preset small    # on 10.0.0.1
#   bash recipes/distributed/torchrun.sh 1 10.0.0.1 --corpus corpus/ --out runs/two --preset small    # on the other
#
# The corpus must be the same on all machines. Only rank 0 writes to --out; to resume a run (--out runs/two --resume),
# every machine needs that folder, on a shared file system. After an error message of elmolite, torchrun prints a trace
# of its own.
#
#   N_NODES=4 N_DEVICES=8 MASTER_PORT=29500    other numbers of machines and of GPUs each, and another port
set -euo pipefail

node=${1:?the number of this machine is missing} first=${2:?the address of machine 0 is missing}
shift 2
n_nodes=${N_NODES:-2} n_devices=${N_DEVICES:-1}

exec torchrun --nnodes "$n_nodes" --nproc-per-node "$n_devices" --node-rank "$node" \
    --master-addr "$first" --master-port "${MASTER_PORT:-29500}" \
    -m elmolite pretrain --n-nodes "$n_nodes" --n-devices "$n_devices" "$@"
