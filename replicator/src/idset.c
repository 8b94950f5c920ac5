#include "idset.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"

#define SLOTS_MIN 64u

/* The slot that holds @id, or the free one where it belongs. */
static uint32_t slot_of(const struct rep_idset *x, const struct lb_id *id)
{
	uint64_t hash;
	uint32_t i;

	memcpy(&hash, id->b, sizeof(hash));
	i = (uint32_t)hash & (x->slots - 1);
	while (x->slot[i] != 0 && !lb_id_equal(&x->v[x->slot[i] - 1], id))
		i = (i + 1) & (x->slots - 1);
	return i;
}

static int grow(struct rep_idset *x, struct lb_err *err)
{
	uint32_t slots = x->slots == 0 ? SLOTS_MIN : x->slots * 2;
	struct lb_id *v = realloc(x->v, (size_t)slots / 2 * sizeof(*v));
	uint32_t *slot;

	if (v != NULL)
		x->v = v;
	slot = v != NULL ? calloc(slots, sizeof(*slot)) : NULL;
	if (slot == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "a set of %" PRIu32 " ids", slots / 2);
	free(x->slot);
	x->slot = slot;
	x->slots = slots;
	x->cap = slots / 2;
	for (uint32_t i = 0; i < x->n; i++)
		x->slot[slot_of(x, &x->v[i])] = i + 1;
	return 0;
}

uint32_t rep_idset_find(const struct rep_idset *x, const struct lb_id *id)
{
	uint32_t at = x->slots != 0 ? x->slot[slot_of(x, id)] : 0;

	return at != 0 ? at - 1 : UINT32_MAX;
}

int rep_idset_add(struct rep_idset *x, const struct lb_id *id, uint32_t *index, struct lb_err *err)
{
	uint32_t at = rep_idset_find(x, id);
	int rc = 0;

	if (at == UINT32_MAX) {
		if (x->n == x->cap)
			rc = grow(x, err);
		if (rc != 0)
			return rc;
		at = x->n++;
		x->v[at] = *id;
		x->slot[slot_of(x, id)] = at + 1;
	}
	if (index != NULL)
		*index = at;
	return 0;
}

void rep_idset_fini(struct rep_idset *x)
{
	free(x->v);
	free(x->slot);
	*x = (struct rep_idset){.n = 0};
}
