#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/err.h"
#include "shadow_int.h"
#include "test_bugs.h"
#include "word_delta_int.h"

#define NONE         UINT32_MAX       /* no page, no layer, end of a chain */
#define UNLINKED     (UINT32_MAX - 1) /* not in a chain: another of the same tag is */
#define CHANGE_HEADS 8192u
#define CHANGES_KEPT 65536u /* entries that stay allocated between cuts */
#define LAYERS_MAX   4096u  /* that slots name: bounds what a layer's index and a view must open */
#define MIN_SPARE    1024u  /* pages beyond the volume's, for the running cut */
#define SPARE_SHARE  8u     /* that is: an eighth of the volume, when it is more */

/* What is known of one block. The tag is of the digest of the bytes in @page. */
struct slot {
	uint64_t tag;
	uint32_t layer, pack, page, next;
	uint32_t pos;
};

/* A slot as it becomes when the cut is acknowledged; page NONE: empty. */
struct change {
	struct slot to;
	uint32_t block;
};

struct layer {
	struct lb_id id;
	uint32_t slots; /* that name it; 0: the place is free at the next begin */
	bool drop;
};

struct rep_shadow {
	uint64_t max_bytes;
	bool described; /* base is known */
	struct lb_hash base;
	bool full;   /* the cut has no base: changes go straight into the slots */
	bool sealed; /* changes lead to manifest */
	struct lb_hash manifest;

	uint32_t blocks;
	struct slot *slot;
	uint32_t *head; /* of chains over slots, by tag */
	uint32_t heads; /* a power of two */

	uint8_t *pages;
	uint32_t page_max, page_fresh, page_used;
	uint32_t page_free; /* chain through the first bytes of free pages */

	struct layer *layer;
	uint32_t layers, layer_cap, current;

	pthread_mutex_t lock; /* while a cut is made: guards pages and what follows; and, when
				 full, slots and chains */
	struct change *change;
	uint32_t changes, change_cap;
	uint32_t *change_head; /* of chains over changes, by tag */
	bool lost;             /* a change was not noted: (W1) would not hold */
};

static void lock(struct rep_shadow *s)
{
	LB_ASSERT(pthread_mutex_lock(&s->lock) == 0);
}

static void unlock(struct rep_shadow *s)
{
	LB_ASSERT(pthread_mutex_unlock(&s->lock) == 0);
}

/* ---- pages ---- */

static uint8_t *page_at(const struct rep_shadow *s, uint32_t page)
{
	return s->pages + (size_t)page * REP_BLOCK_BYTES;
}

static uint32_t page_take(struct rep_shadow *s)
{
	uint32_t page = s->page_free;

	if (page != NONE)
		memcpy(&s->page_free, page_at(s, page), sizeof(s->page_free));
	else if (s->page_fresh < s->page_max)
		page = s->page_fresh++;
	s->page_used += page != NONE;
	return page;
}

static void page_give(struct rep_shadow *s, uint32_t page)
{
	if (page == NONE)
		return;
	memcpy(page_at(s, page), &s->page_free, sizeof(s->page_free));
	s->page_free = page;
	s->page_used--;
}

static int pages_make(struct rep_shadow *s, struct lb_err *err)
{
	uint64_t spare = s->blocks / SPARE_SHARE > MIN_SPARE ? s->blocks / SPARE_SHARE : MIN_SPARE;
	uint64_t n = s->max_bytes != 0 ? s->max_bytes / REP_BLOCK_BYTES : s->blocks + spare;
	void *p;

	if (n > s->blocks + (uint64_t)s->blocks)
		n = s->blocks + (uint64_t)s->blocks; /* one old, one new, each */
	s->page_max = n < UNLINKED ? (uint32_t)n : UNLINKED - 1;
	if (s->page_max == 0)
		return 0;
	/* Touched page by page: what is not used costs nothing. */
	p = mmap(NULL, (size_t)s->page_max * REP_BLOCK_BYTES, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return lb_err_set(err, LB_ENOMEM, errno, "shadow of %" PRIu32 " pages",
				  s->page_max);
	(void)madvise(p, (size_t)s->page_max * REP_BLOCK_BYTES, MADV_DONTDUMP);
	s->pages = p;
	return 0;
}

/* ---- chains of equal tags: each tag at most once, so that no guest can make them long ---- */

static uint64_t tag_of(const struct lb_digest *d)
{
	uint64_t tag;

	memcpy(&tag, d->b, sizeof(tag));
	return tag;
}

static bool tag_equal(uint64_t a, uint64_t b)
{
	return REP_BUG(ref_not_compared) ? a % 16 == b % 16 : a == b;
}

static uint32_t *slot_head(const struct rep_shadow *s, uint64_t tag)
{
	return &s->head[tag & (s->heads - 1)];
}

static uint32_t slot_find(const struct rep_shadow *s, uint64_t tag)
{
	uint32_t i = *slot_head(s, tag);

	while (i != NONE && !tag_equal(s->slot[i].tag, tag))
		i = s->slot[i].next;
	return i;
}

static void slot_link(struct rep_shadow *s, uint32_t i)
{
	struct slot *t = &s->slot[i];
	uint32_t *head = slot_head(s, t->tag);

	t->next = UNLINKED;
	if (slot_find(s, t->tag) != NONE)
		return;
	t->next = *head;
	*head = i;
}

static void slot_unlink(struct rep_shadow *s, uint32_t i)
{
	uint32_t *at = slot_head(s, s->slot[i].tag);

	if (s->slot[i].next == UNLINKED)
		return;
	while (*at != i)
		at = &s->slot[*at].next;
	*at = s->slot[i].next;
}

static void slot_clear(struct rep_shadow *s, uint32_t i)
{
	struct slot *t = &s->slot[i];

	if (t->page == NONE)
		return;
	slot_unlink(s, i);
	page_give(s, t->page);
	s->layer[t->layer].slots--;
	t->page = NONE;
}

static void slot_set(struct rep_shadow *s, uint32_t i, const struct slot *to)
{
	s->slot[i] = *to;
	if (to->page == NONE)
		return;
	s->layer[to->layer].slots++;
	slot_link(s, i);
}

static uint32_t change_find(const struct rep_shadow *s, uint64_t tag)
{
	uint32_t i = s->change_head[tag % CHANGE_HEADS];

	while (i != NONE && !tag_equal(s->change[i].to.tag, tag))
		i = s->change[i].to.next;
	return i;
}

/* ---- create and destroy ---- */

static void tables_free(struct rep_shadow *s)
{
	if (s->pages != NULL)
		(void)munmap(s->pages, (size_t)s->page_max * REP_BLOCK_BYTES);
	free(s->slot);
	free(s->head);
	s->pages = NULL;
	s->slot = NULL;
	s->head = NULL;
	s->blocks = s->page_max = 0;
}

/* Nothing is known, whatever is described. */
static void empty(struct rep_shadow *s)
{
	for (uint32_t i = 0; i < s->blocks; i++)
		s->slot[i].page = NONE;
	for (uint32_t i = 0; i < s->heads && s->head != NULL; i++)
		s->head[i] = NONE;
	for (uint32_t i = 0; i < s->layers; i++)
		s->layer[i].slots = 0;
	for (uint32_t i = 0; i < CHANGE_HEADS; i++)
		s->change_head[i] = NONE;
	s->changes = 0;
	s->page_free = NONE;
	s->page_fresh = s->page_used = 0;
	s->sealed = s->lost = s->described = false;
}

static int tables_make(struct rep_shadow *s, uint64_t blocks, struct lb_err *err)
{
	if (blocks == s->blocks)
		return 0;
	tables_free(s);
	if (blocks >= UNLINKED)
		return lb_err_set(err, LB_EINPUT, 0, "RAM of %" PRIu64 " blocks", blocks);
	s->heads = 1024;
	while (s->heads < blocks / 2)
		s->heads *= 2;
	s->blocks = (uint32_t)blocks;
	s->slot = malloc(s->blocks * sizeof(*s->slot));
	s->head = malloc(s->heads * sizeof(*s->head));
	if (s->slot == NULL || s->head == NULL) {
		tables_free(s);
		return lb_err_set(err, LB_ENOMEM, 0, "shadow of %" PRIu64 " blocks", blocks);
	}
	int rc = pages_make(s, err);

	if (rc != 0)
		tables_free(s);
	else
		empty(s);
	return rc;
}

int rep_shadow_create(struct rep_shadow **out, uint64_t max_bytes, struct lb_err *err)
{
	struct rep_shadow *s = calloc(1, sizeof(*s));

	if (s != NULL)
		s->change_head = malloc(CHANGE_HEADS * sizeof(*s->change_head));
	if (s == NULL || s->change_head == NULL) {
		free(s);
		return lb_err_set(err, LB_ENOMEM, 0, "make a shadow");
	}
	LB_ASSERT(pthread_mutex_init(&s->lock, NULL) == 0);
	s->max_bytes = max_bytes;
	empty(s);
	*out = s;
	return 0;
}

void rep_shadow_destroy(struct rep_shadow *s)
{
	if (s == NULL)
		return;
	tables_free(s);
	free(s->layer);
	free(s->change);
	free(s->change_head);
	LB_ASSERT(pthread_mutex_destroy(&s->lock) == 0);
	free(s);
}

/* ---- the changes of a cut ---- */

static void changes_apply(struct rep_shadow *s)
{
	for (uint32_t i = 0; i < s->changes; i++) {
		const struct change *c = &s->change[i];

		slot_clear(s, c->block);
		slot_set(s, c->block, &c->to);
	}
	s->changes = 0;
}

static void changes_drop(struct rep_shadow *s)
{
	if (REP_BUG(shadow_abandoned)) {
		changes_apply(s);
		return;
	}
	for (uint32_t i = 0; i < s->changes; i++)
		page_give(s, s->change[i].to.page);
	s->changes = 0;
}

/* After changes_apply() or changes_drop(). */
static void changes_reset(struct rep_shadow *s)
{
	for (uint32_t i = 0; i < CHANGE_HEADS; i++)
		s->change_head[i] = NONE;
	s->sealed = s->lost = false;
	if (s->change_cap > CHANGES_KEPT) {
		free(s->change);
		s->change = NULL;
		s->change_cap = 0;
	}
}

static unsigned bits_of(uint32_t n)
{
	unsigned bits = 0;

	while (n >> bits != 0)
		bits++;
	return bits;
}

/* Forget the layers of which least is known, an eighth of all or more: few slots each, and few
 * layers the target can then forget too. */
static void layers_thin(struct rep_shadow *s)
{
	uint32_t of_bits[33] = {0}, sum = 0;
	unsigned bits = 0;

	for (uint32_t i = 0; i < s->layers; i++)
		of_bits[bits_of(s->layer[i].slots)]++;
	while ((sum += of_bits[bits]) < LAYERS_MAX / 8)
		bits++;
	for (uint32_t i = 0; i < s->layers; i++)
		s->layer[i].drop = bits_of(s->layer[i].slots) <= bits;
	for (uint32_t i = 0; i < s->blocks; i++) {
		if (s->slot[i].page != NONE && s->layer[s->slot[i].layer].drop)
			slot_clear(s, i);
	}
}

static uint32_t layer_free(const struct rep_shadow *s)
{
	uint32_t i = 0;

	while (i < s->layers && s->layer[i].slots != 0)
		i++;
	return i;
}

/* The place of the cut's layer among the layers. */
static int layer_make(struct rep_shadow *s, const struct lb_id *id, struct lb_err *err)
{
	uint32_t i = layer_free(s);

	if (i == LAYERS_MAX) {
		layers_thin(s);
		i = layer_free(s);
	}
	if (i == s->layer_cap) {
		uint32_t cap = s->layer_cap == 0 ? 64 : s->layer_cap * 2;
		struct layer *more = realloc(s->layer, cap * sizeof(*more));

		if (more == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "shadow of %" PRIu32 " layers", cap);
		s->layer = more;
		s->layer_cap = cap;
	}
	if (i == s->layers)
		s->layers++;
	s->layer[i] = (struct layer){.id = *id};
	s->current = i;
	return 0;
}

int rep_shadow_begin(struct rep_shadow *s, const struct lb_hash *base, const struct lb_id *layer,
		     uint64_t blocks, struct lb_err *err)
{
	int rc = tables_make(s, blocks, err);

	if (rc != 0) {
		empty(s);
		return rc;
	}
	changes_drop(s);
	changes_reset(s);
	s->full = base == NULL;
	if (s->full || !s->described || !lb_hash_equal(base, &s->base))
		empty(s);
	if (base != NULL) {
		s->base = *base;
		s->described = true;
	}
	rc = layer_make(s, layer, err);
	if (rc != 0)
		empty(s);
	return rc;
}

static struct change *change_add(struct rep_shadow *s)
{
	if (s->changes == s->change_cap) {
		uint32_t cap = s->change_cap == 0 ? 256 : s->change_cap * 2;
		struct change *more = realloc(s->change, cap * sizeof(*more));

		if (more == NULL) {
			s->lost = true;
			return NULL;
		}
		s->change = more;
		s->change_cap = cap;
	}
	return &s->change[s->changes++];
}

/* Lock held. @block becomes @to when the cut is acknowledged. Takes its page. */
static void change_note(struct rep_shadow *s, uint32_t block, const struct slot *to)
{
	struct change *c;
	uint32_t *head;

	if (s->full) {
		slot_set(s, block, to);
		return;
	}
	c = change_add(s);
	if (c == NULL) {
		page_give(s, to->page);
		return;
	}
	c->block = block;
	c->to = *to;
	if (to->page == NONE || change_find(s, to->tag) != (uint32_t)NONE)
		return;
	head = &s->change_head[to->tag % CHANGE_HEADS];
	c->to.next = *head;
	*head = s->changes - 1;
}

/* @block has the bytes at @p, held at the place @to names. */
static void held_note(struct rep_shadow *s, uint32_t block, const uint8_t *p, struct slot *to)
{
	lock(s);
	to->page = page_take(s);
	unlock(s);
	if (to->page != NONE)
		memcpy(page_at(s, to->page), p, REP_BLOCK_BYTES);
	lock(s);
	change_note(s, block, to);
	unlock(s);
}

void rep_shadow_data(struct rep_shadow *s, uint64_t block, const uint8_t *p,
		     const struct lb_digest *digest, uint32_t pack, uint32_t pos)
{
	struct slot to = {.tag = tag_of(digest), .layer = s->current, .pack = pack, .pos = pos};

	LB_ASSERT(block < s->blocks);
	held_note(s, (uint32_t)block, p, &to);
}

void rep_shadow_zero(struct rep_shadow *s, uint64_t block, uint32_t count)
{
	const struct slot none = {.page = NONE};

	LB_ASSERT(block + count <= s->blocks);
	if (s->full || REP_BUG(shadow_unreached))
		return;
	lock(s);
	for (uint32_t i = 0; i < count; i++)
		change_note(s, (uint32_t)block + i, &none);
	unlock(s);
}

/* ---- choosing ---- */

/* A place that holds the bytes at @p. Slots change under our feet only in a full cut. */
static bool equal_find(struct rep_shadow *s, struct slot *out, const uint8_t *p, uint64_t tag)
{
	uint32_t i = s->full ? NONE : slot_find(s, tag);

	if (i != NONE) {
		*out = s->slot[i];
	} else {
		lock(s);
		i = s->full ? slot_find(s, tag) : change_find(s, tag);
		if (i != NONE)
			*out = s->full ? s->slot[i] : s->change[i].to;
		unlock(s);
	}
	return i != NONE && (REP_BUG(ref_not_compared) ||
			     memcmp(page_at(s, out->page), p, REP_BLOCK_BYTES) == 0);
}

static void way_to(const struct rep_shadow *s, struct rep_way *out, const struct slot *t)
{
	bool ours = t->layer == s->current;

	*out = (struct rep_way){.kind = ours ? REP_RUN_DATA : REP_RUN_REF,
				.made = ours,
				.src = ours ? 0 : t->layer,
				.pack = t->pack,
				.pos = t->pos};
}

void rep_shadow_choose(struct rep_shadow *s, struct rep_way *out, uint8_t *patch, uint64_t block,
		       const uint8_t *p, const struct lb_digest *digest)
{
	const struct slot *own = &s->slot[block];
	uint32_t bytes = REP_PATCH_MAX_BYTES + 1;
	struct slot equal;

	LB_ASSERT(block < s->blocks);
	if (!s->full && own->page != NONE)
		bytes = rep_word_delta_encode(patch, REP_PATCH_MAX_BYTES, page_at(s, own->page), p);
	if (bytes == 0) {
		way_to(s, out, own);
		return;
	}
	if (bytes > REP_PATCH_SURE_BYTES && equal_find(s, &equal, p, tag_of(digest))) {
		way_to(s, out, &equal);
		held_note(s, (uint32_t)block, p, &equal);
		return;
	}
	if (bytes > REP_PATCH_MAX_BYTES) {
		*out = (struct rep_way){.kind = REP_RUN_DATA};
		return;
	}
	way_to(s, out, own);
	out->kind = REP_RUN_PATCH;
	out->patch_bytes = bytes;
	if (REP_BUG(shadow_depth_two))
		memcpy(page_at(s, own->page), p, REP_BLOCK_BYTES);
}

const struct lb_id *rep_shadow_layer(const struct rep_shadow *s, uint32_t src)
{
	LB_ASSERT(src < s->layers);
	return &s->layer[src].id;
}

/* ---- the cut's end ---- */

void rep_shadow_seal(struct rep_shadow *s, const struct lb_hash *manifest)
{
	s->sealed = true;
	s->manifest = *manifest;
	if (REP_BUG(shadow_before_receipt))
		changes_apply(s);
}

void rep_shadow_commit(struct rep_shadow *s, const struct lb_hash *manifest)
{
	bool ours = s->sealed && lb_hash_equal(manifest, &s->manifest);

	if (s->described && lb_hash_equal(manifest, &s->base))
		return;
	if (!ours || s->lost) {
		empty(s);
		return;
	}
	changes_apply(s);
	changes_reset(s);
	s->base = *manifest;
	s->described = true;
}

void rep_shadow_stats(const struct rep_shadow *s, struct rep_shadow_stats *out)
{
	*out = (struct rep_shadow_stats){.pages_used = s->page_used, .pages_max = s->page_max};
	for (uint32_t i = 0; i < s->blocks; i++)
		out->blocks += s->slot[i].page != NONE;
	for (uint32_t i = 0; i < s->layers; i++)
		out->layers += s->layer[i].slots != 0;
}
