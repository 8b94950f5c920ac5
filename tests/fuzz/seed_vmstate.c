/* Writes the seeds of fuzz_vmstate into the folder given. Run by hand when the format changes. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "pc1.h"
#include "state_fix.h"
#include "test_board.h"

static const char *folder;
static unsigned count;

static void seed(uint8_t mend, const uint8_t *p, size_t len)
{
	char path[4096];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%02u", folder, count++);
	f = fopen(path, "wb");
	LB_ASSERT(f != NULL && fputc(mend, f) != EOF && fwrite(p, 1, len, f) == len);
	LB_ASSERT(fclose(f) == 0);
}

/* A state whose devices are those of a fresh pc1. */
static size_t real_devices(uint8_t *out, size_t cap)
{
	static uint8_t dev[1 << 20];
	struct vm_cfg cfg = VM_CFG_DEFAULTS;
	struct lb_wr wr = lb_wr_init(dev, sizeof(dev));
	uint8_t head[FIX_STATE_MAX];
	size_t len = fix_state(head);
	struct vm_state_wr w;
	struct test_board t;
	struct vm_pc1 pc1;

	cfg.ram_bytes = VM_RAM_MIN_BYTES;
	test_board_init(&t, cfg.ram_bytes);
	LB_ASSERT(vm_pc1_build(&t.board, &cfg, &pc1, NULL) == 0);
	vm_board_lock(&t.board);
	LB_ASSERT(vm_board_save(&t.board, &wr));
	vm_board_unlock(&t.board);
	test_board_fini(&t);
	vm_state_begin(&w, out, cap);
	w.wr.len = 0;
	lb_wr_bytes(&w.wr, head, len - 16 - 5); /* without its board */
	w.sections = 6;
	fix_section(&w, VM_STATE_BOARD, 0, dev, wr.len);
	return vm_state_end(&w);
}

int main(int argc, char **argv)
{
	static uint8_t big[2 << 20];
	static const struct {
		size_t at;
		uint8_t value;
	} wrong[] = {{0, 'X'}, {8, 2},     {12, 3}, {16, 1}, {24, 9},  {25, 0x80},
		     {28, 1},  {32, 0xff}, {35, 1}, {40, 2}, {42, 0},  {42, 17},
		     {44, 1},  {92, 9},    {94, 9}, {96, 2}, {106, 9}, {130, 5}};
	uint8_t p[FIX_STATE_MAX];
	size_t len;

	if (argc != 2)
		return 2;
	folder = argv[1];
	len = fix_state(p);
	seed(0, p, len);
	seed(1, p, len);
	seed(1, p, len / 2);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		len = fix_state(p);
		p[wrong[i].at] = wrong[i].value;
		seed(1, p, len);
	}
	len = real_devices(big, sizeof(big));
	seed(1, big, len);
	(void)printf("%u seeds, the largest of %zu bytes\n", count, len);
	return 0;
}
