#include "table.h"

#define S_NS   1000000000ull
#define MIN_NS (60 * S_NS)
#define H_NS   (60 * MIN_NS)
#define D_NS   (24 * H_NS)

#define MACHINE_ACTIONS (RB_BIT(RB_BOOT) | RB_BIT(RB_STOP) | RB_BIT(RB_PROBE))
#define NOT_WAIT        (RB_ALL_ACTIONS & ~RB_BIT(RB_WAIT))

#define JOIN(name, text, available, help) text "|"

#define TOP(k, t) .sec = RB_SEC_TOP, .key = (k), .type = (t)
#define STEP(k, t, field) \
	.sec = RB_SEC_STEP, .key = (k), .type = (t), .offset = offsetof(struct rb_step, field)

const char *const rb_sec_names[RB_SEC_COUNT] = {
	[RB_SEC_TOP] = "runbook", [RB_SEC_MAPS] = "maps",   [RB_SEC_NETWORK] = "network",
	[RB_SEC_IP] = "ip-map",   [RB_SEC_GROUP] = "group", [RB_SEC_STEP] = "step",
	[RB_SEC_PROBE] = "probe",
};

/* clang-format off */
const struct rb_key rb_keys[] = {
	{ TOP("apiVersion", RB_KT_CONST), .choices = "lifeboat/v1", .required = 1,
	  .help = "version of the language" },
	{ TOP("kind", RB_KT_CONST), .choices = "Runbook", .required = 1,
	  .help = "what this file is" },
	{ TOP("name", RB_KT_NAME), .offset = offsetof(struct rb_top, name), .required = 1,
	  .help = "name of the runbook, as in `lifeboat run start NAME`" },
	{ TOP("rto", RB_KT_DURATION), .offset = offsetof(struct rb_top, rto_ns),
	  .min = S_NS, .max = 30 * D_NS, .help = "recovery time objective; plan and run compare with it" },
	{ TOP("modes", RB_KT_SET), .offset = offsetof(struct rb_top, modes), .min = 1,
	  .choices = RB_CHOICE_MODES, .dflt = "[drill, failover, planned]",
	  .help = "how this runbook may be started" },
	{ TOP("vars", RB_KT_VARS), .max = RB_MAX_VARS, .help = "names for use as ${name} in `run`" },
	{ TOP("maps", RB_KT_MAP), .sub = RB_SEC_MAPS, .help = "networks and addresses at the other site" },
	{ TOP("groups", RB_KT_LIST_OF), .sub = RB_SEC_GROUP, .max = RB_MAX_GROUPS,
	  .help = "priority groups: barriers between steps" },
	{ TOP("steps", RB_KT_LIST_OF), .sub = RB_SEC_STEP, .min = 1, .max = RB_MAX_STEPS, .required = 1,
	  .help = "what to do; order comes from `needs` and groups, not from the text" },
	{ TOP("finally", RB_KT_LIST_OF), .sub = RB_SEC_STEP, .max = RB_MAX_STEPS,
	  .help = "steps that run when all others have ended, whatever happened" },

	{ .sec = RB_SEC_MAPS, .key = "networks", .type = RB_KT_MAP_OF, .sub = RB_SEC_NETWORK,
	  .max = RB_MAX_MAPS, .help = "network of the source site -> network here, by mode" },
	{ .sec = RB_SEC_MAPS, .key = "ips", .type = RB_KT_LIST_OF, .sub = RB_SEC_IP,
	  .max = RB_MAX_MAPS, .help = "IPv4 ranges -> ranges of the same size; none may overlap" },
	{ .sec = RB_SEC_NETWORK, .key = "drill", .type = RB_KT_NAME,
	  .offset = offsetof(struct rb_map_network, to[RB_DRILL]), .help = "network used in a drill" },
	{ .sec = RB_SEC_NETWORK, .key = "failover", .type = RB_KT_NAME,
	  .offset = offsetof(struct rb_map_network, to[RB_FAILOVER]), .help = "network used in a failover" },
	{ .sec = RB_SEC_NETWORK, .key = "planned", .type = RB_KT_NAME,
	  .offset = offsetof(struct rb_map_network, to[RB_PLANNED]),
	  .help = "network used in a planned failover" },
	{ .sec = RB_SEC_IP, .key = "from", .type = RB_KT_CIDR, .offset = offsetof(struct rb_ip_in, from),
	  .required = 1, .help = "range at the source site" },
	{ .sec = RB_SEC_IP, .key = "to", .type = RB_KT_CIDR, .offset = offsetof(struct rb_ip_in, to),
	  .required = 1, .help = "range here" },

	{ .sec = RB_SEC_GROUP, .key = "id", .type = RB_KT_NAME, .offset = offsetof(struct rb_group, id),
	  .required = 1, .help = "name of the group" },
	{ .sec = RB_SEC_GROUP, .key = "priority", .type = RB_KT_U32,
	  .offset = offsetof(struct rb_group, priority), .min = 1, .max = 1000, .required = 1,
	  .help = "a group's steps start when those of all smaller priorities have ended" },
	{ .sec = RB_SEC_GROUP, .key = "on_member_failure", .type = RB_KT_ENUM,
	  .offset = offsetof(struct rb_group, on_member_failure), .choices = RB_CHOICE_POLICIES,
	  .dflt = "halt", .help = "`on_failure` of members that do not say" },

	{ STEP("id", RB_KT_NAME, id), .actions = RB_ALL_ACTIONS, .required = RB_ALL_ACTIONS,
	  .help = "name of the step, unique in the runbook" },
	{ STEP("action", RB_KT_ENUM, action), .actions = RB_ALL_ACTIONS, .required = RB_ALL_ACTIONS,
	  .choices = RB_ACTIONS(JOIN),
	  .help = "what it does" },
	{ STEP("needs", RB_KT_NAMES, needs), .actions = RB_ALL_ACTIONS, .max = RB_MAX_NEEDS,
	  .help = "steps that must have ended before" },
	{ STEP("group", RB_KT_REF, group), .actions = RB_ALL_ACTIONS,
	  .help = "priority group; not in `finally`" },
	{ STEP("modes", RB_KT_SET, modes), .actions = RB_ALL_ACTIONS, .min = 1, .choices = RB_CHOICE_MODES,
	  .dflt = "those of the runbook", .help = "left out in others; what needs it then waits for what it needs" },
	{ STEP("on_failure", RB_KT_ENUM, on_failure), .actions = RB_ALL_ACTIONS,
	  .choices = RB_CHOICE_POLICIES, .dflt = "the group's, else halt",
	  .help = "when the last attempt failed; in `finally` always continue" },
	{ STEP("on_timeout", RB_KT_ENUM, on_timeout), .actions = NOT_WAIT,
	  .choices = RB_CHOICE_POLICIES, .dflt = "on_failure", .help = "when the last attempt timed out" },
	{ STEP("timeout", RB_KT_DURATION, timeout_ns), .actions = NOT_WAIT, .min = S_NS, .max = 7 * D_NS,
	  .dflt = "fence 2m, boot 10m, report 1m, others 5m", .help = "of one attempt, then it is cancelled" },
	{ STEP("budget", RB_KT_DURATION, budget_ns), .actions = RB_ALL_ACTIONS, .min = S_NS, .max = 7 * D_NS,
	  .help = "shown as late beyond it; never enforced" },
	{ STEP("retries", RB_KT_U32, retries), .actions = NOT_WAIT, .max = 100, .dflt = "0",
	  .help = "further attempts; only for what may be done twice" },
	{ STEP("backoff", RB_KT_RANGE, backoff_min_ns), .actions = NOT_WAIT, .min = 1, .max = D_NS,
	  .dflt = "5s..60s", .help = "wait before a retry: doubles from the first to the second" },
	{ STEP("site", RB_KT_NAME, site), .actions = RB_BIT(RB_FENCE), .required = RB_BIT(RB_FENCE),
	  .help = "site that must have no effect any more" },
	{ STEP("machine", RB_KT_NAME, machine), .actions = MACHINE_ACTIONS, .required = MACHINE_ACTIONS,
	  .help = "machine it is about" },
	{ STEP("point", RB_KT_NAME, point), .actions = RB_BIT(RB_BOOT), .dflt = "latest-good",
	  .help = "latest-good, latest, or at least 4 digits of a recovery point's id" },
	{ STEP("for", RB_KT_DURATION, wait_ns), .actions = RB_BIT(RB_WAIT), .min = S_NS, .max = 7 * D_NS,
	  .required = RB_BIT(RB_WAIT), .help = "how long" },
	{ STEP("probes", RB_KT_LIST_OF, probes), .sub = RB_SEC_PROBE, .min = 1, .max = RB_MAX_PROBES,
	  .actions = RB_BIT(RB_BOOT) | RB_BIT(RB_PROBE), .required = RB_BIT(RB_PROBE),
	  .help = "all must pass, else the attempt fails" },
	{ STEP("run", RB_KT_ARGV, run), .min = 1, .max = RB_MAX_ARGS, .actions = RB_BIT(RB_EXEC),
	  .required = RB_BIT(RB_EXEC), .help = "program (absolute path) and arguments; never a shell" },
	{ STEP("undo", RB_KT_LATER, id), .actions = RB_ALL_ACTIONS,
	  .help = "how to take it back in `run rollback`" },

	{ .sec = RB_SEC_PROBE, .key = "tcp", .type = RB_KT_PORT, .offset = offsetof(struct rb_probe_in, port),
	  .help = "the machine accepts a connection on this port" },
	{ .sec = RB_SEC_PROBE, .key = "serial", .type = RB_KT_TEXT,
	  .offset = offsetof(struct rb_probe_in, serial), .help = "its console prints this text" },
	{ .sec = RB_SEC_PROBE, .key = "guest", .type = RB_KT_ENUM, .offset = offsetof(struct rb_probe_in, guest),
	  .choices = "heartbeat", .help = "its guest channel gives a sign of life" },
	{ .sec = RB_SEC_PROBE, .key = "within", .type = RB_KT_DURATION,
	  .offset = offsetof(struct rb_probe_in, within_ns), .min = S_NS, .max = D_NS, .dflt = "2m",
	  .help = "from the start of the attempt; not longer than the step's timeout" },
};
/* clang-format on */
const size_t rb_key_count = sizeof(rb_keys) / sizeof(rb_keys[0]);
