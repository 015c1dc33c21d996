#!/usr/bin/env bash
# Starts a Slurm of one node on this machine, for tests: slurm.sh start|stop DIR
#
# Needs root and the Debian packages slurmctld, slurmd, slurm-client and munge; no systemd, no accounting. Afterwards
# `export SLURM_CONF=DIR/slurm.conf` makes sbatch, squeue and scancel work. Jobs of partition "urgent" preempt those of
# partition "work", which are queued again. Daemons listen on the loopback address only.
set -euo pipefail

action=$1
dir=$(realpath -m "$2")
export SLURM_CONF=$dir/slurm.conf

start() {
  for program in munged slurmctld slurmd sbatch squeue; do
    command -v "$program" >/dev/null || { echo "$program is missing: see the packages in $0" >&2; exit 3; }
  done
  mkdir -p "$dir/state" "$dir/spool" /run/munge /var/log/munge
  chown munge: /run/munge /var/log/munge
  if [ ! -s /etc/munge/munge.key ]; then runuser -u munge -- mungekey --create; fi
  if ! pgrep -x munged >/dev/null; then runuser -u munge -- munged --force; fi
  configuration >"$SLURM_CONF"
  slurmctld -i
  slurmd
  for _ in {1..100}; do
    if sinfo --noheader --format %T 2>/dev/null | grep -q idle; then return; fi
    sleep 0.1
  done
  echo "the node did not come up: see $dir/*.log" >&2
  exit 1
}

configuration() {
  local node memory
  node=$(hostname -s)
  memory=$(awk '/^MemTotal/ {print int($2 * 0.9 / 1024)}' /proc/meminfo)
  cat <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=${SLURM_TEST_PORT:-16817}
SlurmdPort=$((${SLURM_TEST_PORT:-16817} + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,requeue_setup_env_fail
KillWait=2
MinJobAge=10
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory
PartitionName=work Nodes=$node Default=YES PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=$node PriorityTier=2 PreemptMode=OFF
CONF
}

stop() {
  local daemon
  for daemon in slurmd slurmctld; do
    if [ -s "$dir/$daemon.pid" ]; then kill "$(cat "$dir/$daemon.pid")" 2>/dev/null || true; fi
  done
}

case $action in
  start) start ;;
  stop) stop ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 2 ;;
esac
