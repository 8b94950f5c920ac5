#include "fake_ram.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "rnd.h"

#define PAGE       4096u
#define WORDS      (PAGE / 8)
#define KEPT_PAGES 64u /* earlier contents that pages go back to */
#define SET_SHARE  16u /* the working set: this part of the memory, at least SET_MIN pages */
#define SET_MIN    64u
#define RUNS_MAX   (1u << 22)

struct kept {
	uint64_t page;
	uint8_t bytes[PAGE];
};

struct fake_ram {
	struct img_dev dev; /* reads the frozen copy */
	uint64_t pages, rnd;
	uint8_t *now, *frozen;
	bool *touched; /* since the freeze */
	uint64_t set;  /* first page of the working set */
	struct kept *kept;
	unsigned kept_n;
	struct img_extmap *changed; /* since the last acknowledged cut */
	bool first;
};

static uint8_t *page_at(const struct fake_ram *m, uint64_t page)
{
	return m->now + page * PAGE;
}

/* ---- content ---- */

static void fill_pointers(struct fake_ram *m, uint8_t *p)
{
	uint64_t region = UINT64_C(0xffff888000000000) + (rnd_u64(&m->rnd) & 0x3ffff000);

	for (unsigned i = 0; i < WORDS; i++) {
		uint64_t r = rnd_u64(&m->rnd), word = 0;

		if (r % 8 < 3)
			word = region + (r >> 8) % 65536 * 8;
		else if (r % 8 < 5)
			word = (r >> 8) % 4096;
		memcpy(p + (size_t)i * 8, &word, 8);
	}
}

static void fill_text(struct fake_ram *m, uint8_t *p)
{
	static const char *const words[16] = {
		"struct ", "return ", "page ", "the ",    "0x00", "lib/",  "kernel", "\n\t",
		"err = ",  "memory ", "; ",    "->next ", "64",   "_lock", "(",      "config "};
	size_t n = 0;

	while (n < PAGE) {
		uint64_t r = rnd_u64(&m->rnd);
		const char *w = words[r % 16];
		size_t len = strlen(w);

		if (r % 3 == 0) { /* something that is in no dictionary */
			p[n++] = (uint8_t)('a' + (r >> 8) % 26);
			continue;
		}
		len = len < PAGE - n ? len : PAGE - n;
		memcpy(p + n, w, len);
		n += len;
	}
}

/* Few opcodes, many operands. */
static void fill_code(struct fake_ram *m, uint8_t *p)
{
	static const uint8_t op[8] = {0x48, 0x89, 0x8b, 0xe8, 0x0f, 0x85, 0xc3, 0x00};

	for (unsigned i = 0; i < PAGE; i += 4) {
		uint64_t r = rnd_u64(&m->rnd);

		p[i] = op[r % 8];
		p[i + 1] = op[(r >> 8) % 8];
		p[i + 2] = (uint8_t)(r >> 16);
		p[i + 3] = r % 3 == 0 ? 0 : (uint8_t)(r >> 24);
	}
}

static void fill(struct fake_ram *m, uint8_t *p)
{
	uint64_t r = rnd_below(&m->rnd, 100);

	if (r < 45)
		fill_pointers(m, p);
	else if (r < 65)
		fill_text(m, p);
	else if (r < 88)
		fill_code(m, p);
	else
		rnd_fill(&m->rnd, p, PAGE);
}

/* ---- change ---- */

static void touch(struct fake_ram *m, uint64_t page)
{
	m->touched[page] = true;
}

static void edit_words(struct fake_ram *m, uint64_t page, unsigned words)
{
	uint64_t at = rnd_below(&m->rnd, WORDS);

	for (unsigned i = 0; i < words; i++) {
		uint64_t word, r = rnd_u64(&m->rnd);
		uint8_t *p = page_at(m, page) + at * 8;

		memcpy(&word, p, 8);
		word = r % 4 == 0 ? UINT64_C(0xffff888000000000) + (r >> 34) : word + 1 + r % 64;
		memcpy(p, &word, 8);
		at = (at + 1 + (r % 3 == 0 ? rnd_below(&m->rnd, WORDS) : 0)) % WORDS;
	}
	touch(m, page);
}

static void keep(struct fake_ram *m, uint64_t page)
{
	struct kept *k = &m->kept[m->kept_n++ % KEPT_PAGES];

	k->page = page;
	memcpy(k->bytes, page_at(m, page), PAGE);
}

static void back(struct fake_ram *m)
{
	unsigned n = m->kept_n < KEPT_PAGES ? m->kept_n : KEPT_PAGES;
	struct kept *k;

	if (n == 0)
		return;
	k = &m->kept[rnd_below(&m->rnd, n)];
	memcpy(page_at(m, k->page), k->bytes, PAGE);
	touch(m, k->page);
}

static void move(struct fake_ram *m, uint64_t from, bool leave)
{
	uint64_t to = rnd_below(&m->rnd, m->pages);

	if (to == from)
		return;
	memcpy(page_at(m, to), page_at(m, from), PAGE);
	touch(m, to);
	if (leave)
		return;
	memset(page_at(m, from), 0, PAGE);
	touch(m, from);
}

static uint64_t set_pages(const struct fake_ram *m)
{
	uint64_t n = m->pages / SET_SHARE < SET_MIN ? SET_MIN : m->pages / SET_SHARE;

	return n < m->pages ? n : m->pages;
}

void fake_ram_run(struct fake_ram *m, uint64_t pages, enum fake_ram_edits edits)
{
	uint64_t set = set_pages(m) > pages ? set_pages(m) : m->pages;

	for (uint64_t i = 0; i < pages; i++) {
		uint64_t page = (m->set + rnd_below(&m->rnd, set)) % m->pages;
		uint64_t what = edits == FAKE_RAM_WORDS ? 0 : rnd_below(&m->rnd, 100);

		if (what == 97 || what == 20)
			keep(m, page);
		if (what < 60)
			edit_words(m, page, 1 + (unsigned)rnd_below(&m->rnd, 8));
		else if (what < 78)
			edit_words(m, page, 9 + (unsigned)rnd_below(&m->rnd, 120));
		else if (what < 88)
			fill(m, page_at(m, page));
		else if (what < 92)
			move(m, page, what % 2 == 0);
		else if (what < 95)
			back(m);
		else
			memset(page_at(m, page), 0, PAGE);
		touch(m, page);
	}
	if (edits == FAKE_RAM_GUEST)
		m->set = (m->set + rnd_below(&m->rnd, 1 + set / 64)) % m->pages;
}

void fake_ram_put(struct fake_ram *m, uint64_t page, const uint8_t *bytes)
{
	if (memcmp(page_at(m, page), bytes, PAGE) == 0)
		return;
	memcpy(page_at(m, page), bytes, PAGE);
	touch(m, page);
}

/* ---- cuts ---- */

static int frozen_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off,
			struct lb_err *err)
{
	(void)err;
	memcpy(buf, ((struct fake_ram *)(void *)d)->frozen + off, (size_t)len);
	return 0;
}

static void frozen_destroy(struct img_dev *d)
{
	(void)d; /* lives and goes with the memory */
}

static const struct img_dev_ops frozen_ops = {
	.name = "fake-ram", .pread = frozen_pread, .destroy = frozen_destroy};

struct fake_ram *fake_ram_create(uint64_t bytes, uint64_t seed)
{
	struct fake_ram *m = calloc(1, sizeof(*m));

	LB_ASSERT(m != NULL && bytes != 0 && bytes % PAGE == 0);
	m->dev = (struct img_dev){.ops = &frozen_ops, .size_bytes = bytes};
	m->pages = bytes / PAGE;
	m->rnd = seed;
	m->now = calloc(1, bytes);
	m->frozen = calloc(1, bytes);
	m->touched = calloc(m->pages, sizeof(bool));
	m->kept = calloc(KEPT_PAGES, sizeof(*m->kept));
	m->first = true;
	LB_ASSERT(m->now != NULL && m->frozen != NULL && m->touched != NULL && m->kept != NULL);
	LB_ASSERT(img_extmap_create(&m->changed, false, RUNS_MAX, NULL) == 0);
	for (uint64_t i = 0; i < m->pages; i++) {
		if (rnd_below(&m->rnd, 100) < 42)
			continue;
		fill(m, page_at(m, i));
		touch(m, i);
	}
	return m;
}

void fake_ram_destroy(struct fake_ram *m)
{
	if (m == NULL)
		return;
	img_extmap_destroy(m->changed);
	free(m->now);
	free(m->frozen);
	free(m->touched);
	free(m->kept);
	free(m);
}

void fake_ram_cut(struct fake_ram *m, struct img_dev **dev, const struct img_extmap **changed)
{
	for (uint64_t i = 0; i < m->pages; i++) {
		if (!m->touched[i])
			continue;
		m->touched[i] = false;
		memcpy(m->frozen + i * PAGE, page_at(m, i), PAGE);
		LB_ASSERT(img_extmap_insert(m->changed, i, 1, 0, NULL) == 0);
	}
	*dev = &m->dev;
	*changed = m->first ? NULL : m->changed;
}

void fake_ram_end(struct fake_ram *m, bool acked)
{
	if (!acked)
		return;
	img_extmap_clear(m->changed);
	m->first = false;
}

const uint8_t *fake_ram_frozen(const struct fake_ram *m)
{
	return m->frozen;
}

void fake_ram_hash(const struct fake_ram *m, struct lb_hash *out)
{
	lb_sha256(out, m->frozen, (size_t)m->dev.size_bytes);
}
