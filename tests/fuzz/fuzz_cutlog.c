/*
 * Foreign bytes as the log of a cut device: it opens or says why not, what it names lies on the
 * disk, and a kept cut makes a log of it that the next start believes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "imaging/cut.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"

#define DISK_BYTES (UINT64_C(64) * 4096 + 512)
#define REGION     UINT64_C(8192)
#define LOG_BYTES  (8192 + 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_names(struct img_dev *cut)
{
	const struct img_extmap *m;
	const struct img_run *runs;

	LB_ASSERT(img_cut_mark(cut, NULL) == 0);
	LB_ASSERT(img_cut_changed(cut, &m, NULL) == 0);
	LB_ASSERT((m == NULL) == (img_cut_log(cut, NULL) != IMG_CUT_LOG_KEPT));
	if (m == NULL)
		return;
	runs = img_extmap_runs(m);
	for (size_t i = 0; i < img_extmap_count(m); i++)
		LB_ASSERT(runs[i].count > 0 && runs[i].start + runs[i].count <= 65);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct img_cut_cfg cfg = {.region_bytes = REGION};
	struct img_dev *cut;
	uint8_t block[4096] = {1};

	if (size > LOG_BYTES)
		return -1;
	LB_ASSERT(img_cut_log_bytes(DISK_BYTES, REGION) == LOG_BYTES);
	LB_ASSERT(img_mem_create(&cfg.lower, DISK_BYTES, NULL) == 0);
	LB_ASSERT(img_mem_create(&cfg.side, DISK_BYTES, NULL) == 0);
	LB_ASSERT(img_mem_create(&cfg.log, LOG_BYTES, NULL) == 0);
	LB_ASSERT(img_pwrite(cfg.log, data, size, 0, NULL) == 0);
	LB_ASSERT(img_cut_create(&cut, &cfg, NULL) == 0);
	check_names(cut);
	LB_ASSERT(img_pwrite(cut, block, sizeof(block), 8 * 4096, NULL) == 0);
	img_cut_release(cut, size % 2 == 0, NULL);
	LB_ASSERT(img_pwrite(cut, block, sizeof(block), 20 * 4096, NULL) == 0);
	img_dev_destroy(cut);
	LB_ASSERT(img_cut_create(&cut, &cfg, NULL) == 0);
	if (size % 2 == 0)
		LB_ASSERT(img_cut_log(cut, NULL) == IMG_CUT_LOG_KEPT);
	check_names(cut);
	img_dev_destroy(cut);
	img_dev_destroy(cfg.log);
	img_dev_destroy(cfg.side);
	img_dev_destroy(cfg.lower);
	return 0;
}
