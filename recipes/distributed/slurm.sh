#!/usr/bin/env bash
# Pretrain on two nodes of a SLURM cluster with four GPUs each; CORPUS and OUT on a file system that all nodes see.
#
#   sbatch recipes/distributed/slurm.sh CORPUS OUT --preset original --batch-size 384
#
# Submitted again after it ran out of time, it resumes: --signal gives it two minutes to save a checkpoint.
#SBATCH --job-name=elmolite
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
# One task is one process and has one GPU. Do not use --ntasks or --gpus-per-task: each process picks its GPU among all
# of its node. Do not name the job "bash" or "interactive": Lightning then ignores the other tasks.
set -euo pipefail

corpus=${1:?the corpus folder is missing} out=${2:?the folder of the run is missing}
shift 2
if compgen -G "$out/checkpoints/step-*.ckpt" > /dev/null || compgen -G "$out/points/step-*.ckpt" > /dev/null; then
    set -- "$@" --resume
fi
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

# srun does not take --cpus-per-task over from sbatch. --kill-on-bad-exit ends the others where one dies.
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
    elmolite pretrain --corpus "$corpus" --out "$out" \
    --n-nodes "$SLURM_JOB_NUM_NODES" --n-devices "$SLURM_NTASKS_PER_NODE" "$@"
