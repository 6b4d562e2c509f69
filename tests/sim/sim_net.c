/* sim_net.c - connections between actors: frames arrive whole, in order, after a drawn delay; links
 * are cut and healed; connections break; raft's one-way frames may be lost, doubled, and overtake.
 */
#include "sim/sim_world.h"

#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

struct sim_conn;

struct sim_end {
    struct sim_conn *conn;
    struct sim_actor *actor; /* NULL: not there (any more) */
    env_conn handle;
    bool paused, over; /* over: queued passed the bound, drained is owed */
    uint8_t *out;      /* the frame that is being put together */
    size_t out_len, out_capacity;
    struct list_node packets; /* towards the other end, in order */
    size_t queued_bytes;
    uint64_t last_due_ns;
};

struct sim_conn {
    struct list_node link;
    struct sim_world *world;
    unsigned hosts[2];
    struct sim_end ends[2]; /* 0 dialled 1 */
    struct sim_event dial;
    struct sim_event give_up; /* what was sent over a cut link is not answered for too long */
    bool established;
};

struct sim_packet {
    struct sim_event event;
    struct list_node link;
    struct sim_end *from;
    struct frame *frame; /* NULL: the connection ends here */
    err_t err;
    bool arrived; /* held: the link is cut, or the receiver reads nothing */
};

enum { SOURCE_CONN = 10000 };

static struct sim_end *other(struct sim_end *end)
{
    return end == &end->conn->ends[0] ? &end->conn->ends[1] : &end->conn->ends[0];
}

static unsigned end_host(const struct sim_end *end)
{
    return end->conn->hosts[end == &end->conn->ends[1]];
}

static struct sim_end *find(struct sim_actor *actor, env_conn handle)
{
    if (handle.slot >= SIM_CONNS_MAX || handle.generation == 0)
        return NULL;
    struct sim_end *end = actor->ends[handle.slot];
    return end != NULL && end->handle.generation == handle.generation ? end : NULL;
}

static bool end_open(struct sim_end *end, struct sim_actor *actor)
{
    for (uint32_t slot = 0; slot < SIM_CONNS_MAX; slot++) {
        if (actor->ends[slot] != NULL)
            continue;
        actor->ends[slot] = end;
        end->actor = actor;
        end->handle = (env_conn){slot, ++actor->host->world->conn_generation};
        return true;
    }
    return false;
}

static void packet_free(struct sim_packet *packet)
{
    sim_unschedule(packet->from->conn->world, &packet->event);
    list_remove(&packet->link);
    if (packet->frame != NULL)
        packet->from->queued_bytes -= packet->frame->used;
    frame_unref(packet->frame);
    free(packet);
}

static void packets_drop(struct sim_end *end)
{
    while (!list_empty(&end->packets))
        packet_free(list_entry(end->packets.next, struct sim_packet, link));
}

/* The handle matches nobody from here on; the connection is freed with its second end. */
static void end_close(struct sim_end *end)
{
    struct sim_conn *conn = end->conn;
    if (end->actor != NULL)
        end->actor->ends[end->handle.slot] = NULL;
    end->actor = NULL;
    free(end->out);
    end->out = NULL;
    end->out_len = end->out_capacity = 0;
    packets_drop(other(end));
    if (other(end)->actor != NULL)
        return;
    packets_drop(end);
    sim_unschedule(conn->world, &conn->dial);
    sim_unschedule(conn->world, &conn->give_up);
    list_remove(&conn->link);
    free(conn);
}

static struct sim_item *end_item(struct sim_end *end, enum sim_item_kind kind)
{
    struct sim_item *item = sim_actor_item(end->actor, kind, SOURCE_CONN + end->handle.slot);
    item->net.conn = end->handle;
    return item;
}

static void packet_arrive(struct sim_packet *packet);

/* Delivers what was held, in order. */
static void release(struct sim_end *from)
{
    list_for_each_safe (node, after, &from->packets) {
        struct sim_packet *packet = list_entry(node, struct sim_packet, link);
        if (!packet->arrived)
            break;
        bool last = packet->frame == NULL;
        packet_arrive(packet);
        if (last || (!list_empty(&from->packets) && from->packets.next == node))
            break;
    }
}

static void end_told_closed(struct sim_end *end, err_t err)
{
    if (end->actor == NULL)
        return;
    end_item(end, SIM_ITEM_CLOSED)->net.err = err;
}

static bool end_cut(const struct sim_end *from)
{
    unsigned to = from->conn->hosts[from == &from->conn->ends[0]];
    return from->conn->world->cut[end_host(from)][to];
}

/* TCP gives up on retransmission: both sides hear of it. */
static void give_up_run(struct sim_world *world, struct sim_event *event)
{
    (void)world;
    struct sim_conn *conn = container_of(event, struct sim_conn, give_up);
    if (!world->cut[conn->hosts[0]][conn->hosts[1]] && !world->cut[conn->hosts[1]][conn->hosts[0]])
        return;
    for (int i = 0; i < 2; i++)
        packets_drop(&conn->ends[i]);
    for (int i = 0; i < 2; i++)
        end_told_closed(&conn->ends[i], ERR_UNREACHABLE);
}

static void packet_arrive(struct sim_packet *packet)
{
    struct sim_end *from = packet->from, *to = other(from);
    struct sim_world *world = from->conn->world;
    bool cut = end_cut(from);
    if (cut && !heap_holds(&from->conn->give_up.node))
        sim_schedule(world, &from->conn->give_up,
                     rng_between(&world->rng, world->net.give_up_ns / 4, world->net.give_up_ns));
    if (cut || (to->paused && packet->frame != NULL)) {
        packet->arrived = true;
        return;
    }
    if (packet->frame == NULL) {
        err_t err = packet->err;
        packet_free(packet);
        end_told_closed(to, err);
        return;
    }
    struct frame *frame = frame_ref(packet->frame);
    packet_free(packet);
    end_item(to, SIM_ITEM_FRAME)->net.frame = frame;
    if (from->over && from->queued_bytes < world->net.queue_bytes_max / 2 && from->actor != NULL) {
        from->over = false;
        end_item(from, SIM_ITEM_DRAINED);
    }
}

static void packet_run(struct sim_world *world, struct sim_event *event)
{
    (void)world;
    struct sim_packet *packet = container_of(event, struct sim_packet, event);
    struct sim_end *from = packet->from;
    /* What stands before it is held: it waits its turn. */
    if (from->packets.next != &packet->link &&
        list_entry(packet->link.prev, struct sim_packet, link)->arrived) {
        packet->arrived = true;
        return;
    }
    packet_arrive(packet);
    release(from); /* what arrived before an overtaker at the head did */
}

static uint64_t draw_delay(struct sim_world *world)
{
    return rng_between(&world->rng, world->net.delay_min_ns, world->net.delay_max_ns);
}

static uint64_t draw_slowness(const struct sim_end *from)
{
    struct sim_world *world = from->conn->world;
    unsigned to = from->conn->hosts[from == &from->conn->ends[0]];
    uint64_t slow_ns = world->slow_ns[end_host(from)][to];
    return slow_ns == 0 ? 0 : rng_below(&world->rng, slow_ns);
}

static void packet_send(struct sim_end *from, struct frame *frame, err_t err, bool overtakes)
{
    struct sim_world *world = from->conn->world;
    struct sim_packet *packet = calloc(1, sizeof *packet);
    ASSERT(packet != NULL);
    packet->event.run = packet_run;
    packet->from = from;
    packet->frame = frame;
    packet->err = err;
    if (frame != NULL)
        from->queued_bytes += frame->used;
    if (from->queued_bytes > world->net.queue_bytes_max)
        from->over = true;
    uint64_t due = world->now_ns + draw_delay(world) + draw_slowness(from);
    if (overtakes) {
        list_push_front(&from->packets, &packet->link);
        sim_schedule(world, &packet->event, due - world->now_ns);
        return;
    }
    if (due < from->last_due_ns)
        due = from->last_due_ns;
    from->last_due_ns = due;
    list_push_back(&from->packets, &packet->link);
    sim_schedule(world, &packet->event, due - world->now_ns);
}

/* A whole frame leaves: the faults of the network happen here. */
static void frame_send(struct sim_end *from, struct frame *frame)
{
    struct sim_world *world = from->conn->world;
    if (other(from)->actor == NULL) { /* gone: the kernel would answer with a reset */
        frame_unref(frame);
        return;
    }
    world->frames_sent++;
    if (world->frame_leaves != NULL)
        world->frame_leaves(world, from->actor, frame);
    bool raft = frame->used >= WIRE_HEADER_BYTES && frame->bytes[4] == WIRE_ONEWAY &&
                get_u16(frame->bytes + 6) == WIRE_RAFT;
    if (raft && rng_chance(&world->rng, world->net.raft_loss_ppm)) {
        world->frames_lost++;
        frame_unref(frame);
        return;
    }
    if (raft && rng_chance(&world->rng, world->net.raft_duplicate_ppm)) {
        world->frames_duplicated++;
        packet_send(from, frame_ref(frame), ERR_OK, false);
    }
    bool overtakes = raft && rng_chance(&world->rng, world->net.raft_reorder_ppm);
    packet_send(from, frame, ERR_OK, overtakes);
    if (rng_chance(&world->rng, world->net.reset_ppm)) {
        world->resets++;
        packets_drop(from);
        packets_drop(other(from));
        packet_send(from, NULL, ERR_IO, false);
        packet_send(other(from), NULL, ERR_IO, false);
    }
}

/* ---- the table of env.h ---- */

static err_t net_send(void *self, env_conn handle, struct frame *frame, size_t at, size_t bytes)
{
    struct sim_end *end = find(self, handle);
    ASSERT(at + bytes <= frame->used);
    ASSERT(end == NULL || end->conn->established);
    if (end == NULL || end->actor->host->dying) {
        frame_unref(frame);
        return ERR_CLOSED;
    }
    /* A whole frame of one owner's travels as it is; others may still be read or patched. */
    if (end->out_len == 0 && at == 0 && bytes == frame->used && bytes >= 4 &&
        (size_t)get_u32(frame->bytes) + 4 == bytes && atomic_load(&frame->refs) == 1 &&
        frame->budget == NULL) {
        frame_send(end, frame);
        return ERR_OK;
    }
    if (end->out_len + bytes > end->out_capacity) {
        end->out_capacity = (end->out_len + bytes) * 2;
        end->out = realloc(end->out, end->out_capacity);
        ASSERT(end->out != NULL);
    }
    memcpy(end->out + end->out_len, frame->bytes + at, bytes);
    end->out_len += bytes;
    frame_unref(frame);
    size_t done = 0;
    while (end->out_len - done >= 4) {
        size_t length = (size_t)get_u32(end->out + done) + 4;
        if (end->out_len - done < length)
            break;
        struct frame *whole = frame_new(length);
        ASSERT(whole != NULL);
        memcpy(whole->bytes, end->out + done, length);
        whole->used = (uint32_t)length;
        done += length;
        frame_send(end, whole);
    }
    memmove(end->out, end->out + done, end->out_len - done);
    end->out_len -= done;
    return ERR_OK;
}

static size_t net_queued_bytes(void *self, env_conn handle)
{
    struct sim_end *end = find(self, handle);
    return end == NULL ? 0 : end->queued_bytes + end->out_len;
}

static void net_pause_reads(void *self, env_conn handle, bool paused)
{
    struct sim_end *end = find(self, handle);
    if (end == NULL || end->paused == paused)
        return;
    end->paused = paused;
    if (!paused)
        release(other(end));
}

static void net_drop(void *self, env_conn handle)
{
    struct sim_end *end = find(self, handle);
    if (end == NULL)
        return;
    if (other(end)->actor != NULL)
        packet_send(end, NULL, ERR_CLOSED, false);
    end_close(end);
}

static void dial_run(struct sim_world *world, struct sim_event *event)
{
    struct sim_conn *conn = container_of(event, struct sim_conn, dial);
    struct sim_host *to = world->hosts[conn->hosts[1]];
    bool cut =
        world->cut[conn->hosts[0]][conn->hosts[1]] || world->cut[conn->hosts[1]][conn->hosts[0]];
    if (cut || (!to->up && !to->powered)) {
        end_told_closed(&conn->ends[0], ERR_UNREACHABLE);
        return;
    }
    if (!to->up || to->accepting == 0) {
        end_told_closed(&conn->ends[0], ERR_REFUSED);
        return;
    }
    struct sim_actor *actor = to->actors[rng_below(&world->rng, to->accepting)];
    if (!end_open(&conn->ends[1], actor)) {
        end_told_closed(&conn->ends[0], ERR_IO);
        return;
    }
    conn->established = true;
    end_item(&conn->ends[1], SIM_ITEM_ACCEPTED);
    end_item(&conn->ends[0], SIM_ITEM_CONNECTED);
}

static err_t net_dial(void *self, const char *host, uint16_t port, env_conn *ret_conn)
{
    struct sim_actor *actor = self;
    struct sim_world *world = actor->host->world;
    struct sim_host *to = NULL;
    for (unsigned i = 0; i < world->host_count; i++)
        if (strcmp(world->hosts[i]->name, host) == 0 && world->hosts[i]->port == port)
            to = world->hosts[i];
    if (to == NULL || port == 0)
        return ERR_INVALID;
    struct sim_conn *conn = calloc(1, sizeof *conn);
    ASSERT(conn != NULL);
    conn->world = world;
    conn->hosts[0] = actor->host->idx;
    conn->hosts[1] = to->idx;
    conn->dial.run = dial_run;
    conn->give_up.run = give_up_run;
    for (int i = 0; i < 2; i++) {
        conn->ends[i].conn = conn;
        list_init(&conn->ends[i].packets);
    }
    if (!end_open(&conn->ends[0], actor)) {
        free(conn);
        return ERR_FULL;
    }
    list_push_back(&world->conns, &conn->link);
    bool silent = world->cut[actor->host->idx][to->idx] || (!to->up && !to->powered);
    uint64_t delay =
        silent ? rng_between(&world->rng, ENV_MS(1000), ENV_MS(3000)) : 2 * draw_delay(world);
    sim_schedule(world, &conn->dial, delay);
    *ret_conn = conn->ends[0].handle;
    return ERR_OK;
}

void sim_net_init(struct sim_actor *actor)
{
    actor->env.net = (struct env_net){
        .dial = net_dial,
        .send = net_send,
        .queued_bytes = net_queued_bytes,
        .pause_reads = net_pause_reads,
        .drop = net_drop,
        .finish = net_drop, /* what was sent is under way already */
        .self = actor,
    };
}

/* ---- for the turns ---- */

bool sim_net_taken(struct sim_actor *actor, const struct sim_item *item)
{
    struct sim_end *end = find(actor, item->net.conn);
    if (end == NULL) {
        if (item->kind == SIM_ITEM_FRAME)
            frame_unref(item->net.frame);
        return false;
    }
    if (item->kind == SIM_ITEM_CLOSED)
        end_close(end);
    return true;
}

/* ---- hosts and links ---- */

void sim_net_host_stopped(struct sim_host *host)
{
    struct sim_world *world = host->world;
    list_for_each_safe (node, after, &world->conns) {
        struct sim_conn *conn = list_entry(node, struct sim_conn, link);
        for (int i = 0; i < 2; i++) {
            struct sim_end *end = &conn->ends[i];
            if (end->actor == NULL || end->actor->host != host)
                continue;
            bool twin_lives = other(end)->actor != NULL;
            /* A killed process's kernel says goodbye; a machine without power says nothing. The
             * other end is then told when its machine gives up on retransmission. */
            if (twin_lives) {
                packet_send(end, NULL, host->powered ? ERR_CLOSED : ERR_UNREACHABLE, false);
                if (!host->powered) {
                    struct sim_packet *last =
                        list_entry(end->packets.prev, struct sim_packet, link);
                    sim_schedule(world, &last->event,
                                 rng_between(&world->rng, ENV_MS(2000), ENV_MS(8000)));
                }
            }
            end_close(end);
            if (!twin_lives)
                break; /* the connection is freed */
        }
    }
}

void sim_net_link_changed(struct sim_world *world)
{
    world->links_changed_ns = world->now_ns;
    list_for_each_safe (node, after, &world->conns) {
        struct sim_conn *conn = list_entry(node, struct sim_conn, link);
        for (int i = 0; i < 2; i++)
            if (!list_empty(&conn->ends[i].packets))
                release(&conn->ends[i]);
    }
}

void sim_net_fini(struct sim_world *world)
{
    for (struct list_node *node; (node = list_pop_front(&world->conns)) != NULL;) {
        struct sim_conn *conn = list_entry(node, struct sim_conn, link);
        for (int i = 0; i < 2; i++) {
            packets_drop(&conn->ends[i]);
            free(conn->ends[i].out);
        }
        sim_unschedule(world, &conn->dial);
        sim_unschedule(world, &conn->give_up);
        free(conn);
    }
}
