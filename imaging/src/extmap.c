#include "imaging/extmap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define FIRST_CAP 16u

struct img_extmap {
	struct img_run *runs; /* sorted, disjoint, none empty */
	size_t count;
	size_t cap;
	size_t max_runs;
	uint64_t blocks;
	bool advance;
};

static uint64_t run_end(const struct img_run *r)
{
	return r->start + r->count;
}

/* Does @b go on where @a ends, in blocks and in value, so that the two are one run? */
static bool continues(const struct img_extmap *m, const struct img_run *a, const struct img_run *b)
{
	if (run_end(a) != b->start)
		return false;
	return m->advance ? a->value + a->count == b->value : a->value == b->value;
}

/* The part of @r from block @from on. */
static struct img_run tail_of(const struct img_extmap *m, const struct img_run *r, uint64_t from)
{
	uint64_t skip = from - r->start;

	return (struct img_run){
		.start = from,
		.count = r->count - skip,
		.value = m->advance ? r->value + skip : r->value,
	};
}

/* Index of the first run that ends after @block. */
static size_t first_after(const struct img_extmap *m, uint64_t block)
{
	size_t lo = 0;
	size_t hi = m->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (run_end(&m->runs[mid]) > block)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static int make_room(struct img_extmap *m, size_t need, struct lb_err *err)
{
	struct img_run *grown;
	size_t cap = m->cap != 0 ? m->cap : FIRST_CAP;

	if (need > m->max_runs)
		return lb_err_set(err, LB_ENOMEM, 0, "extmap: more than %zu runs", m->max_runs);
	if (need <= m->cap)
		return 0;
	while (cap < need)
		cap *= 2;
	if (cap > m->max_runs)
		cap = m->max_runs;
	grown = reallocarray(m->runs, cap, sizeof(*grown));
	if (grown == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "extmap: %zu runs", cap);
	m->runs = grown;
	m->cap = cap;
	return 0;
}

static uint64_t sum_blocks(const struct img_run *r, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += r[i].count;
	return sum;
}

/* Put @n runs of @with in the place of runs [@lo, @hi). Nothing changes when it fails. */
static int splice(struct img_extmap *m, size_t lo, size_t hi, const struct img_run *with, size_t n,
		  struct lb_err *err)
{
	size_t count = m->count - (hi - lo) + n;
	int rc = make_room(m, count, err);

	if (rc != 0)
		return rc;
	m->blocks -= sum_blocks(m->runs + lo, hi - lo);
	m->blocks += sum_blocks(with, n);
	memmove(m->runs + lo + n, m->runs + hi, (m->count - hi) * sizeof(*m->runs));
	memcpy(m->runs + lo, with, n * sizeof(*with));
	m->count = count;
	return 0;
}

static size_t push_piece(const struct img_extmap *m, struct img_run *pieces, size_t n,
			 const struct img_run *r)
{
	if (n > 0 && continues(m, &pieces[n - 1], r)) {
		pieces[n - 1].count += r->count;
		return n;
	}
	pieces[n] = *r;
	return n + 1;
}

/*
 * Clear [start, end) and put @fresh there when not NULL. Works on the runs that overlap or touch
 * the range: what is left of the first, the new run, what is left of the last, merged where they
 * meet.
 */
static int replace(struct img_extmap *m, uint64_t start, uint64_t end, const struct img_run *fresh,
		   struct lb_err *err)
{
	struct img_run pieces[3];
	size_t n = 0;
	size_t lo = start > 0 ? first_after(m, start - 1) : 0;
	size_t hi = lo;

	while (hi < m->count && m->runs[hi].start <= end)
		hi++;
	if (lo < hi && m->runs[lo].start < start) {
		struct img_run left = m->runs[lo];

		if (left.count > start - left.start)
			left.count = start - left.start;
		n = push_piece(m, pieces, n, &left);
	}
	if (fresh != NULL)
		n = push_piece(m, pieces, n, fresh);
	if (lo < hi && run_end(&m->runs[hi - 1]) > end) {
		const struct img_run *last = &m->runs[hi - 1];
		struct img_run right = tail_of(m, last, end > last->start ? end : last->start);

		n = push_piece(m, pieces, n, &right);
	}
	return lo == hi && n == 0 ? 0 : splice(m, lo, hi, pieces, n, err);
}

static int check_args(uint64_t start, uint64_t count, struct lb_err *err)
{
	if (count > UINT64_MAX - start)
		return lb_err_set(err, LB_EINVAL, 0, "extmap: run %" PRIu64 "+%" PRIu64, start,
				  count);
	return 0;
}

int img_extmap_insert(struct img_extmap *m, uint64_t start, uint64_t count, uint64_t value,
		      struct lb_err *err)
{
	struct img_run fresh = {.start = start, .count = count, .value = value};
	int rc = check_args(start, count, err);

	if (rc == 0 && m->advance)
		rc = check_args(value, count, err);
	if (rc != 0 || count == 0)
		return rc;
	return replace(m, start, start + count, &fresh, err);
}

int img_extmap_remove(struct img_extmap *m, uint64_t start, uint64_t count, struct lb_err *err)
{
	int rc = check_args(start, count, err);

	if (rc != 0 || count == 0)
		return rc;
	return replace(m, start, start + count, NULL, err);
}

bool img_extmap_find(const struct img_extmap *m, uint64_t block, struct img_run *out)
{
	size_t i = first_after(m, block);

	if (i == m->count)
		return false;
	*out = m->runs[i].start < block ? tail_of(m, &m->runs[i], block) : m->runs[i];
	return true;
}

size_t img_extmap_count(const struct img_extmap *m)
{
	return m->count;
}

const struct img_run *img_extmap_runs(const struct img_extmap *m)
{
	return m->runs;
}

uint64_t img_extmap_blocks(const struct img_extmap *m)
{
	return m->blocks;
}

void img_extmap_clear(struct img_extmap *m)
{
	m->count = 0;
	m->blocks = 0;
}

int img_extmap_create(struct img_extmap **out, bool advance, size_t max_runs, struct lb_err *err)
{
	struct img_extmap *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "extmap: map");
	m->advance = advance;
	m->max_runs = max_runs;
	*out = m;
	return 0;
}

void img_extmap_destroy(struct img_extmap *m)
{
	if (m == NULL)
		return;
	free(m->runs);
	free(m);
}
