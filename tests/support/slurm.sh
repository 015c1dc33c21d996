#!/usr/bin/env bash
# A Slurm on this machine, for tests. It needs root and Debian's packages, but no systemd and no accounting.
#
#   slurm.sh install             gets the packages if they are missing
#   slurm.sh start|stop DIR      then export SLURM_CONF=DIR/slurm.conf; daemons listen on the loopback address only
#   slurm.sh run COMMAND...      starts one, runs a command and stops it
#   slurm.sh slurmd DIR NODE     starts the daemon of a node again
#
# It has one node, and with SLURM_TEST_NODES=2 a second, "localhost". A node has as many CPUs as the machine, and at
# least two. Jobs of partition "urgent" preempt those of partition "work", which are queued again.
set -euo pipefail

export PATH=$PATH:/usr/sbin:/sbin
action=$1
shift
case $action in
  install | run) dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT ;;
  *) dir=$(realpath -m "$1") ;;
esac
export SLURM_CONF=$dir/slurm.conf
host=$(hostname -s)
nodes=$host
if [ "${SLURM_TEST_NODES:-1}" = 2 ]; then nodes="$host localhost"; fi

missing() {
  for program in munged slurmctld slurmd sbatch squeue; do
    command -v "$program" >/dev/null || echo "$program"
  done
}

install() {
  if [ -n "$(missing)" ]; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge
  fi
  [ "$(id -u)" = 0 ]
} >/dev/null 2>&1

start() {
  if [ -n "$(missing)" ]; then
    echo "missing, see $0 install: $(missing | xargs)" >&2
    exit 3
  fi
  mkdir -p "$dir/state" /run/munge /var/log/munge
  chown munge: /run/munge /var/log/munge
  if [ ! -s /etc/munge/munge.key ]; then runuser -u munge -- mungekey --create; fi
  if ! pgrep -x munged >/dev/null; then runuser -u munge -- munged --force; fi
  configuration >"$SLURM_CONF"
  slurmctld -i
  for node in $nodes; do "$0" slurmd "$dir" "$node"; done
  for _ in {1..300}; do
    if [ "$(sinfo --noheader --Node --partition work --states idle 2>/dev/null | wc -l)" = "$(wc -w <<<"$nodes")" ]; then return; fi
    sleep 0.1
  done
  echo "the node did not come up: see $dir/*.log" >&2
  exit 1
}

# A node does not see what others have in DIR/hidden-NODE, if this machine lets it have a mount of its own.
slurmd_of() {
  mkdir -p "$dir/hidden-$1"
  unshare -m sh -c "mount -t tmpfs none '$dir/hidden-$1' && exec slurmd -N '$1'" 2>/dev/null || slurmd -N "$1"
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
PartitionName=work Nodes=ALL Default=YES PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
CONF
  port=${SLURM_TEST_PORT:-16817}
  for node in $nodes; do
    echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port += 1)) CPUs=$((cpus < 2 ? 2 : cpus)) RealMemory=$memory"
  done
}

stop() {
  local file pid
  for file in "$dir"/slurmd-*.pid "$dir/slurmctld.pid"; do
    pid=$(cat "$file" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || true
    timeout 10 tail --pid="$pid" -f /dev/null || true
  done
}

case $action in
  install) install ;;
  start) start ;;
  stop) stop ;;
  slurmd) slurmd_of "$2" ;;
  run)
    trap 'stop; rm -rf "$dir"' EXIT
    start
    "$@"
    ;;
  *) sed -n '2,/^set/s/^# \?//p' "$0" >&2; exit 2 ;;
esac
