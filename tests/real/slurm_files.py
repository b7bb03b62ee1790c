"""What the nodes of a Slurm cluster are made by: a namespace's script, and slurm.conf."""

#: Makes a namespace a node, says so, and lasts as long as its standard input.
BECOME = """
set -e
hostname "$1"
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -m 0755 /run/registryd /run/user
for place in /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "$place"; done
for uid in $3; do mkdir -m 0700 "/run/user/$uid"; chown "$uid:$uid" "/run/user/$uid"; done
mkdir -p "$2/dev"
mount -t tmpfs -o mode=0755,dev tmpfs "$2/dev"
mknod -m 0666 "$2/dev/fuse" c 10 229
[ ! -e /dev/fuse ] || mount --bind "$2/dev/fuse" /dev/fuse
mount --bind "$4/passwd" /etc/passwd
mount --bind "$4/group" /etc/group
mount --bind "$4/etc/slurm" /etc/slurm
for pair in $5; do mount --bind "${pair#*=}" "$4/${pair%%=*}"; done
mount -t overlay -o "lowerdir=$4/usr/local/lib:/usr/local/lib" overlay /usr/local/lib
echo ready
exec cat
"""

#: Filled in with host, ports, nodes (their ports) and folder.
CONF = """
ClusterName=rd
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
MpiDefault=none
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0
StateSaveLocation={folder}/spool/ctld
SlurmctldPidFile={folder}/spool/ctld.pid
SlurmctldLogFile={folder}/spool/ctld.log
SlurmdSpoolDir={folder}/spool/%n
SlurmdPidFile={folder}/spool/%n.pid
SlurmdLogFile={folder}/spool/%n.log
MailProg=/bin/true
NodeName=n[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{nodes}] CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=5 State=UP
BurstBufferType=burst_buffer/lua
include /etc/slurm/registryd.conf
"""
