# What differs between the packages; sourced by build.sh. DAEMONS, then a line per daemon and field.
DAEMONS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)
# Programs in a package besides the daemon.
declare -A EXTRA=([kube-apiserver]=corten-store)
declare -A DEPENDS=([kubelet]="iptables, mount, util-linux" [kube-proxy]="iptables, conntrack, kmod")
declare -A RECOMMENDS=(
  [kubelet]="containerd | cri-o, containernetworking-plugins, ethtool, socat"
  [kube-proxy]="ipset, nftables"
)
declare -A SUMMARY=(
  [kube-apiserver]="Kubernetes API server"
  [kube-controller-manager]="Kubernetes controllers"
  [kube-scheduler]="Kubernetes scheduler"
  [kubelet]="Kubernetes node agent"
  [kube-proxy]="Kubernetes Service proxy"
)
