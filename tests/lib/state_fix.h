/*
 * tests/lib/state_fix.h - machine state bytes of fixed content: golden vector, unit test, fuzzer.
 */
#ifndef TESTS_STATE_FIX_H
#define TESTS_STATE_FIX_H

#include <string.h>

#include "base/hash.h"
#include "state.h"

enum {
	FIX_STATE_MAX = 4096
};

static inline struct vm_state_machine fix_state_machine(void)
{
	struct vm_state_machine m = {
		.info = {.ram_bytes = 64 << 20,
			 .vcpus = 2,
			 .disks = 2,
			 .nics = 1,
			 .bus = {VM_DISK_IDE, VM_DISK_VIRTIO},
			 .disk_bytes = {1 << 20, UINT64_C(5) << 30},
			 .mac = {{0x52, 0x54, 0, 1, 2, 3}},
			 .wall_ns = UINT64_C(1700000000000000000)},
		.boot_ns = 123456789,
		.seq = 42,
		.serial = {"", "disk-1"},
	};

	for (unsigned i = 0; i < sizeof(m.info.uuid.b); i++)
		m.info.uuid.b[i] = (uint8_t)(0x10 + i);
	return m;
}

static inline struct vm_cpu fix_state_cpu(void)
{
	return (struct vm_cpu){
		.count = 2,
		.leaf = {{.eax = 0xd, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
			 {.leaf = 1,
			  .eax = 0x50654,
			  .ebx = 0x800,
			  .ecx = 0x80202001,
			  .edx = 0x178bfbff}},
	};
}

static inline void fix_section(struct vm_state_wr *w, uint32_t type, uint32_t instance,
			       const void *p, size_t len)
{
	lb_wr_bytes(vm_state_open(w, type, instance), p, len);
	vm_state_close(w);
}

/* Everything of a machine with two processors; what KVM and the devices said is made up. Returns
 * the length. */
static inline size_t fix_state(uint8_t out[FIX_STATE_MAX])
{
	struct vm_state_machine machine = fix_state_machine();
	struct vm_state_host host = {.tsc_khz = 2400000, .cpu_model = "A processor"};
	struct vm_cpu cpu = fix_state_cpu();
	uint8_t bytes[VM_CPU_MAX_BYTES];
	struct vm_state_wr w;

	vm_state_begin(&w, out, FIX_STATE_MAX);
	vm_state_put_machine(vm_state_open(&w, VM_STATE_MACHINE, 0), &machine);
	vm_state_close(&w);
	fix_section(&w, VM_STATE_CPU, 0, bytes, vm_cpu_encode(bytes, sizeof(bytes), &cpu));
	vm_state_put_host(vm_state_open(&w, VM_STATE_HOST, 0), &host);
	vm_state_close(&w);
	fix_section(&w, VM_STATE_VCPU, 0, "processor 0", 11);
	fix_section(&w, VM_STATE_VCPU, 1, "processor 1", 11);
	fix_section(&w, VM_STATE_CHIPS, 0, "chips", 5);
	fix_section(&w, VM_STATE_BOARD, 0, "board", 5);
	return vm_state_end(&w);
}

static inline uint32_t fix_get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Make all section checksums right again, as far as the lengths lead. */
static inline void fix_state_mend(uint8_t *p, size_t len)
{
	for (size_t at = 24; at + 16 <= len;) {
		uint32_t n = fix_get32(p + at + 8), crc;

		if (n > len - at - 16)
			return;
		crc = lb_crc32c(lb_crc32c(0, p + at, 12), p + at + 16, n);
		for (unsigned i = 0; i < 4; i++)
			p[at + 12 + i] = (uint8_t)(crc >> (8 * i));
		at += 16 + (size_t)n;
	}
}

#endif
