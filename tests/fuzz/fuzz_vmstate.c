/* State bytes come from another site. The first byte says whether checksums are mended first, so
 * that what lies behind them is reached. What is accepted is consistent, encodes to the same bytes,
 * and its device section is loaded into a machine of pc1. */
#include <stdlib.h>

#include "base/assert.h"
#include "pc1.h"
#include "state_fix.h"
#include "test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_head(const struct vm_state_view *v)
{
	uint8_t buf[2 * VM_CPU_MAX_BYTES];
	struct lb_wr wr = lb_wr_init(buf, sizeof(buf));
	struct vm_cpu again;
	size_t len;

	LB_ASSERT(v->machine.info.vcpus >= 1 && v->machine.info.vcpus <= VM_VCPUS_MAX);
	LB_ASSERT(v->machine.info.disks <= VM_DISKS_MAX && v->machine.info.nics <= VM_NICS_MAX);
	for (unsigned i = 0; i < v->machine.info.vcpus; i++)
		LB_ASSERT(v->vcpu[i].p != NULL);
	vm_state_put_machine(&wr, &v->machine);
	vm_state_put_host(&wr, &v->host);
	LB_ASSERT(lb_wr_done(&wr));
	len = vm_cpu_encode(buf, sizeof(buf), &v->machine.info.cpu);
	LB_ASSERT(len > 0 && vm_cpu_decode(&again, buf, len, NULL) == 0);
	LB_ASSERT(memcmp(&again, &v->machine.info.cpu, sizeof(again)) == 0);
}

static void load_devices(const struct vm_state_view *v)
{
	struct vm_cfg cfg = VM_CFG_DEFAULTS;
	struct lb_rd rd = lb_rd_init(v->board.p, v->board.len);
	struct test_board t;
	struct vm_pc1 pc1;

	cfg.ram_bytes = VM_RAM_MIN_BYTES;
	test_board_init(&t, cfg.ram_bytes);
	LB_ASSERT(vm_pc1_build(&t.board, &cfg, &pc1, NULL) == 0);
	vm_board_lock(&t.board);
	if (vm_board_load(&t.board, &rd, NULL) == 0)
		vm_board_resume(&t.board);
	vm_board_unlock(&t.board);
	test_board_fini(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vm_state_view v;
	uint8_t *p;

	if (size < 1)
		return 0;
	p = malloc(size);
	LB_ASSERT(p != NULL);
	memcpy(p, data + 1, size - 1);
	if ((data[0] & 1) != 0)
		fix_state_mend(p, size - 1);
	if (vm_state_parse(&v, p, size - 1, NULL) == 0) {
		check_head(&v);
		load_devices(&v);
	}
	free(p);
	return 0;
}
