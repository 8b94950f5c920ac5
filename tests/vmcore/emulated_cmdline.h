/* tests/vmcore/emulated_cmdline.h - command line of a stock kernel whose ring 0 is emulated. */
#ifndef TESTS_EMULATED_CMDLINE_H
#define TESTS_EMULATED_CMDLINE_H

/* Interrupts through the IOAPIC and its input 0 for the tick, or through the 8259s. In front of the
 * rest. A timer in the local APIC would tick at full speed. */
#define EMULATED_IOAPIC "maxcpus=1 nolapic_timer "
#define EMULATED_8259   "noapic nolapic nosmp "

/* What an emulated kernel must not do, because a thousand instructions take a millisecond:
 * docs/vmcore-linux.md says why each is here. No XSAVE and POPCNT: the emulator has none. */
#define EMULATED_CMDLINE                                                                         \
	"earlyprintk=serial,ttyS0,115200 console=ttyS0,115200 nokaslr "                          \
	"pci=nomsi tsc=reliable no_timer_check mitigations=off init_on_alloc=0 noxsave "         \
	"clearcpuid=popcnt,ssse3,movbe,aes,pclmulqdq,xmm4_1,xmm4_2 io_delay=none audit=0 "       \
	"random.trust_cpu=on 8250.nr_uarts=1 panic=-1 noreplace-smp rodata=off "                 \
	"cryptomgr.notests lsm= apparmor=0 selinux=0 nowatchdog noresume "                       \
	"cgroup_disable=memory i8042.nokbd i8042.noaux xen_nopv nopv numa=off hibernate=no "     \
	"cpuidle.off=1 noautogroup nohugeiomap transparent_hugepage=never slub_nomerge=0 "       \
	"ipv6.disable=1 initcall_blacklist=ftrace_check_for_weak_functions,ftrace_check_sync,"   \
	"trace_eval_init,trace_eval_sync,tracer_init_tracefs,init_kprobe_trace,"                 \
	"init_uprobe_trace,init_blk_tracer,trace_events_synth_init,event_trace_enable_again,"    \
	"init_dynamic_event,late_trace_init,btf_vmlinux_init,cubictcp_register,slab_sysfs_init," \
	"dmi_init,sysfb_init,rsa_init,init_profile_hash,btf_module_init,bpf_rstat_kfunc_init,"   \
	"bpf_key_sig_kfuncs_init,kfunc_init,bpf_map_iter_init,task_iter_init,"                   \
	"bpf_prog_iter_init,bpf_link_iter_init,bpf_cgroup_iter_init,bpf_sockmap_iter_init,"      \
	"bpf_sk_storage_map_iter_init,bpf_prog_test_run_init,tcp_bpf_v4_build_proto,"            \
	"bpf_tcp_ca_kfunc_init,bpf_ksym_iter_register,init_trampolines,bpf_event_init,"          \
	"load_system_certificate_list,load_uefi_certs,init_ima,init_evm,init_encrypted,"         \
	"init_optprobes,debugfs_kprobe_init,i8042_init,hugetlb_init,efisubsys_init,tpm_init,"    \
	"intel_pstate_init,slab_debugfs_init,dynamic_debug_init_control,perf_event_sysfs_init,"  \
	"ibs_init,aa_create_aafs,hugepage_init,cacheinfo_sysfs_init,blacklist_init,"             \
	"init_hw_perf_events "

#endif
