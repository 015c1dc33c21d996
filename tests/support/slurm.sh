#!/usr/bin/env bash
# Starts a Slurm of one node on this machine, for tests: slurm.sh start|stop DIR, or slurm.sh run COMMAND...
# runs a command with one. With SLURM_TEST_NODES=2 it has a second
# node, "localhost", on the same machine. A node has as many CPUs as the machine, and at least two.
#
# Needs root and the Debian packages slurmctld, slurmd, slurm-client and munge; no systemd, no accounting. Afterwards
# `export SLURM_CONF=DIR/slurm.conf` makes sbatch, squeue and scancel work. Jobs of partition "urgent" preempt those of
# partition "work", which are queued again. Daemons listen on the loopback address only.
set -euo pipefail

action=$1
shift
if [ "$action" = run ]; then dir=$(mktemp -d); else dir=$(realpath -m "$1"); fi
export SLURM_CONF=$dir/slurm.conf
host=$(hostname -s)
nodes=$host
if [ "${SLURM_TEST_NODES:-1}" = 2 ]; then nodes="$host localhost"; fi

start() {
  for program in munged slurmctld slurmd sbatch squeue; do
    command -v "$program" >/dev/null || { echo "$program is missing: see the packages in $0" >&2; exit 3; }
  done
  mkdir -p "$dir/state" /run/munge /var/log/munge
  chown munge: /run/munge /var/log/munge
  if [ ! -s /etc/munge/munge.key ]; then runuser -u munge -- mungekey --create; fi
  if ! pgrep -x munged >/dev/null; then runuser -u munge -- munged --force; fi
  configuration >"$SLURM_CONF"
  slurmctld -i
  for node in $nodes; do slurmd -N "$node"; done
  for _ in {1..300}; do
    if [ "$(sinfo --noheader --Node --partition work --states idle 2>/dev/null | wc -l)" = "$(wc -w <<<"$nodes")" ]; then return; fi
    sleep 0.1
  done
  echo "the node did not come up: see $dir/*.log" >&2
  exit 1
}

configuration() {
  local node cpus memory port
  cpus=$(env -u OMP_NUM_THREADS nproc)
  memory=$(awk '/^MemTotal/ {print int($2 * 0.9 / 1024)}' /proc/meminfo)
  cat <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURM_TEST_PORT:-16817}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,requeue_setup_env_fail
KillWait=2
MinJobAge=10
PartitionName=work Nodes=ALL Default=YES PriorityTier=1 GraceTime=2
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
CONF
  port=${SLURM_TEST_PORT:-16817}
  for node in $nodes; do
    echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port += 1)) CPUs=$((cpus < 2 ? 2 : cpus)) RealMemory=$memory"
  done
}

stop() {
  local daemon
  for daemon in "$dir"/slurmd-*.pid "$dir/slurmctld.pid"; do
    if [ -s "$daemon" ]; then kill "$(cat "$daemon")" 2>/dev/null || true; fi
  done
}

case $action in
  start) start ;;
  stop) stop ;;
  run)
    trap 'stop; rm -rf "$dir"' EXIT
    start
    "$@"
    ;;
  *) echo "usage: $0 start|stop DIR, or $0 run COMMAND..." >&2; exit 2 ;;
esac
