/*
 * A client's side of docs/protocols.md, in C99 and written from that document alone.
 *
 *     cc -std=c99 -o client client.c && ./client FILE...
 *
 * The files are those in protocols/tests/golden. Each holds one message in hexadecimal. It is decoded, printed and encoded anew: the bytes have to be the same. Every
 * message that is cut short has to be refused. Two messages are made from nothing and compared with their files too.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 16
#define MAX_BODY 65536

/* Types, as docs/protocols.md names them. */
enum type { U8, BOOL, U16, U32, U64, TEXT, BYTES, DIGEST, OPTION, LIST, FIELDS, VARIANT };

/* A type with the name of what has it. `of` is what it consists of: one type for OPTION and LIST, several for FIELDS and VARIANT (each
 * variant being FIELDS, possibly none), ended by one without a name. */
struct schema {
    const char *name;
    enum type type;
    const struct schema *of;
};

#define END { NULL, U8, NULL }

/* ---- the tables of docs/protocols.md ---- */

static const struct schema a_digest = { "digest", DIGEST, NULL };
static const struct schema a_u16 = { "id", U16, NULL };
static const struct schema a_text = { "text", TEXT, NULL };
static const struct schema a_spec = { "spec", BYTES, NULL };

static const struct schema hello[] = { { "lowest", U16, NULL }, { "highest", U16, NULL }, { "name", TEXT, NULL }, END };
static const struct schema a_u64 = { "number", U64, NULL };
static const struct schema only_domid[] = { { "domid", U16, NULL }, END };
static const struct schema a_vm[] = { { "domid", U16, NULL }, { "serial", OPTION, &a_u64 }, END };
static const struct schema only_digest[] = { { "digest", DIGEST, NULL }, END };

static const struct schema failure[] = { { "reason", U32, NULL }, { "detail", TEXT, NULL }, END };

static const struct schema put_begin[] = { { "digest", DIGEST, NULL }, { "size", U64, NULL }, END };
static const struct schema put_chunk[] = {
    { "digest", DIGEST, NULL }, { "offset", U64, NULL }, { "bytes", BYTES, NULL }, END
};
static const struct schema source_ramdisk[] = { { "name", TEXT, NULL }, END };
static const struct schema sources[] = { { "Ramdisk", FIELDS, source_ramdisk }, { "Store", FIELDS, only_digest }, END };
static const struct schema a_source = { "source", VARIANT, sources };
static const struct schema build[] = {
    { "spec", BYTES, NULL },        { "kernel", VARIANT, sources }, { "ramdisk", OPTION, &a_source },
    { "paused", BOOL, NULL },       { "console", OPTION, &a_u16 },  { "xenstore", OPTION, &a_u16 },
    { "label", OPTION, &a_text },   { "measured", BOOL, NULL },     END
};
static const struct schema list[] = { { "after", U16, NULL }, END };
static const struct schema watch[] = { { "watch", BOOL, NULL }, END };
static const struct schema server_request[] = {
    { "Hello", FIELDS, hello },         { "PutImageBegin", FIELDS, put_begin },
    { "PutImageChunk", FIELDS, put_chunk }, { "PutImageEnd", FIELDS, only_digest },
    { "Build", FIELDS, build },         { "List", FIELDS, list },
    { "Pause", FIELDS, a_vm },          { "Unpause", FIELDS, a_vm },
    { "Shutdown", FIELDS, a_vm },       { "Destroy", FIELDS, a_vm },
    { "WatchExits", FIELDS, watch },    { "Facts", FIELDS, NULL },
    { "PutImageCancel", FIELDS, only_digest },
    END
};

static const struct schema quota[] = {
    { "memory_kib", U64, NULL },  { "vms", U32, NULL },         { "first_domid", U16, NULL },
    { "last_domid", U16, NULL },  { "store_bytes", U64, NULL }, { "requests", U32, NULL },
    END
};
static const struct schema server_hello[] = {
    { "version", U16, NULL }, { "name", TEXT, NULL }, { "quota", FIELDS, quota }, END
};
static const struct schema image[] = {
    { "digest", DIGEST, NULL }, { "received", U64, NULL }, { "complete", BOOL, NULL }, END
};
static const struct schema ring[] = { { "frame", U64, NULL }, { "port", U32, NULL }, END };
static const struct schema a_ring = { "ring", FIELDS, ring };
static const struct schema built[] = {
    { "domid", U16, NULL },          { "start_info", U64, NULL },    { "kernel", DIGEST, NULL },
    { "ramdisk", OPTION, &a_digest }, { "console", FIELDS, ring },   { "xenstore", OPTION, &a_ring },
    { "serial", U64, NULL },          END
};
static const struct schema states[] = {
    { "Paused", FIELDS, NULL }, { "Running", FIELDS, NULL }, { "Ended", FIELDS, NULL }, { "Dying", FIELDS, NULL }, END
};
static const struct schema a_state = { "state", VARIANT, states };
static const struct schema vm_entry[] = {
    { "domid", U16, NULL },      { "name", TEXT, NULL }, { "state", VARIANT, states },
    { "memory_kib", U64, NULL }, { "vcpus", U32, NULL }, { "serial", U64, NULL },
    END
};
static const struct schema a_vm_entry = { "vm", FIELDS, vm_entry };
static const struct schema server_vms[] = { { "vms", LIST, &a_vm_entry }, { "more", BOOL, NULL }, END };
static const struct schema facts[] = {
    { "xen_major", U16, NULL },  { "xen_minor", U16, NULL }, { "domctl", U32, NULL },
    { "memory_kib", U64, NULL }, { "free_kib", U64, NULL },  { "stored_bytes", U64, NULL },
    { "quota", FIELDS, quota },  END
};
static const struct schema server_reply[] = {
    { "Hello", FIELDS, server_hello }, { "Image", FIELDS, image }, { "Built", FIELDS, built },
    { "Vms", FIELDS, server_vms },     { "Done", FIELDS, NULL },   { "Facts", FIELDS, facts },
    { "Failed", FIELDS, failure },     END
};

static const struct schema status[] = { { "status", U8, NULL }, END };
static const struct schema ends[] = {
    { "Poweroff", FIELDS, NULL }, { "Reboot", FIELDS, NULL },    { "Suspend", FIELDS, NULL },
    { "Crash", FIELDS, NULL },    { "Watchdog", FIELDS, NULL },  { "SoftReset", FIELDS, NULL },
    { "Status", FIELDS, status }, { "Destroyed", FIELDS, NULL }, END
};
static const struct schema ended[] = {
    { "domid", U16, NULL }, { "name", TEXT, NULL }, { "reason", VARIANT, ends }, { "serial", U64, NULL }, END
};
static const struct schema server_notice[] = { { "Ended", FIELDS, ended }, { "Dropped", FIELDS, failure }, END };

static const struct schema create_platform[] = { { "name", TEXT, NULL }, { "specs", LIST, &a_spec }, END };
static const struct schema create_vm[] = { { "platform", TEXT, NULL }, { "spec", BYTES, NULL }, END };
static const struct schema of_platform[] = { { "platform", TEXT, NULL }, { "skip", U32, NULL }, END };
static const struct schema shutdown_vm[] = { { "platform", TEXT, NULL }, { "vm", TEXT, NULL }, END };
static const struct schema terminate[] = { { "platform", TEXT, NULL }, END };
static const struct schema read_journal[] = { { "first", U64, NULL }, END };
static const struct schema control_request[] = {
    { "Hello", FIELDS, hello },               { "CreatePlatform", FIELDS, create_platform },
    { "CreateVm", FIELDS, create_vm },        { "List", FIELDS, of_platform },
    { "ShutdownVm", FIELDS, shutdown_vm },    { "TerminatePlatform", FIELDS, terminate },
    { "MeasurePlatform", FIELDS, of_platform }, { "ReadJournal", FIELDS, read_journal }, END
};

static const struct schema control_hello[] = { { "version", U16, NULL }, { "name", TEXT, NULL }, END };
static const struct schema platform_created[] = { { "vms", U32, NULL }, END };
static const struct schema control_vm[] = {
    { "name", TEXT, NULL }, { "domid", OPTION, &a_u16 }, { "state", OPTION, &a_state }, { "restarts", U32, NULL }, END
};
static const struct schema a_control_vm = { "vm", FIELDS, control_vm };
static const struct schema control_vms[] = { { "vms", LIST, &a_control_vm }, { "more", BOOL, NULL }, END };
static const struct schema measurement[] = {
    { "vm", TEXT, NULL }, { "spec", DIGEST, NULL }, { "kernel", DIGEST, NULL }, { "ramdisk", OPTION, &a_digest }, END
};
static const struct schema a_measurement = { "measurement", FIELDS, measurement };
static const struct schema measured[] = {
    { "measurements", LIST, &a_measurement }, { "more", BOOL, NULL }, { "total", DIGEST, NULL }, END
};
static const struct schema levels[] = {
    { "Error", FIELDS, NULL }, { "Warn", FIELDS, NULL }, { "Info", FIELDS, NULL }, END
};
static const struct schema journal_entry[] = {
    { "number", U64, NULL }, { "time", U64, NULL }, { "level", VARIANT, levels }, { "text", TEXT, NULL }, END
};
static const struct schema a_journal_entry = { "entry", FIELDS, journal_entry };
static const struct schema journal[] = { { "entries", LIST, &a_journal_entry }, { "more", BOOL, NULL }, END };
static const struct schema control_reply[] = {
    { "Hello", FIELDS, control_hello }, { "PlatformCreated", FIELDS, platform_created },
    { "VmCreated", FIELDS, only_domid }, { "Vms", FIELDS, control_vms },
    { "Done", FIELDS, NULL },           { "Measured", FIELDS, measured },
    { "Failed", FIELDS, failure },      { "Journal", FIELDS, journal },
    END
};

static const struct schema vm_ended[] = {
    { "platform", TEXT, NULL }, { "vm", TEXT, NULL }, { "reason", VARIANT, ends }, { "restarts", BOOL, NULL }, END
};
static const struct schema platform_ended[] = { { "platform", TEXT, NULL }, { "well", BOOL, NULL }, END };
static const struct schema control_notice[] = {
    { "VmEnded", FIELDS, vm_ended }, { "PlatformEnded", FIELDS, platform_ended }, { "Dropped", FIELDS, failure }, END
};

/* By the kind in the header. */
static const struct schema kinds[] = {
    { "ServerRequest", VARIANT, server_request },   { "ServerReply", VARIANT, server_reply },
    { "ServerNotice", VARIANT, server_notice },     { "ControlRequest", VARIANT, control_request },
    { "ControlReply", VARIANT, control_reply },     { "ControlNotice", VARIANT, control_notice },
};

/* ---- writing ---- */

struct writer {
    uint8_t bytes[HEADER + MAX_BODY];
    size_t length;
};

static void put(struct writer *to, const void *bytes, size_t length)
{
    if (length > sizeof to->bytes - to->length) {
        fprintf(stderr, "a message longer than any may be\n");
        exit(1);
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

/* Seven bits a byte, the lowest first; all but the last have the top bit set. */
static void put_number(struct writer *to, uint64_t number)
{
    do {
        uint8_t byte = number & 0x7f;
        number >>= 7;
        if (number)
            byte |= 0x80;
        put(to, &byte, 1);
    } while (number);
}

static void put_text(struct writer *to, const char *text)
{
    put_number(to, strlen(text));
    put(to, text, strlen(text));
}

static void put_le(uint8_t *at, uint32_t number, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(number >> (8 * i));
}

/* Leaves room for the header, which is filled in when the length of the body is known. */
static void begin(struct writer *to)
{
    memset(to->bytes, 0, HEADER);
    to->length = HEADER;
}

static void finish(struct writer *to, uint16_t kind, uint32_t id)
{
    memcpy(to->bytes, "DBMG", 4);
    put_le(to->bytes + 4, 1, 2);
    put_le(to->bytes + 6, kind, 2);
    put_le(to->bytes + 8, id, 4);
    put_le(to->bytes + 12, (uint32_t)(to->length - HEADER), 4);
}

/* ---- reading; every function gives 0 for bytes that are not what they should be ---- */

struct reader {
    const uint8_t *bytes;
    size_t left;
};

static int get(struct reader *from, const uint8_t **bytes, size_t length)
{
    if (length > from->left)
        return 0;
    *bytes = from->bytes;
    from->bytes += length;
    from->left -= length;
    return 1;
}

static int get_number(struct reader *from, uint64_t most, uint64_t *number)
{
    const uint8_t *byte;
    *number = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (!get(from, &byte, 1))
            return 0;
        if (shift == 63 && *byte > 1)
            return 0;
        *number |= (uint64_t)(*byte & 0x7f) << shift;
        if (!(*byte & 0x80)) /* a last byte of 0 would be a longer form of the same number */
            return (*byte != 0 || shift == 0) && *number <= most;
    }
    return 0;
}

static uint32_t get_le(const uint8_t *at, int bytes)
{
    uint32_t number = 0;
    for (int i = 0; i < bytes; i++)
        number |= (uint32_t)at[i] << (8 * i);
    return number;
}

/* ---- a value: decoded, printed if `out` is not NULL, encoded anew ---- */

static void show_bytes(FILE *out, const uint8_t *bytes, uint64_t length)
{
    for (uint64_t i = 0; out && i < length; i++)
        fprintf(out, "%02x", bytes[i]);
}

static int copy(const struct schema *schema, struct reader *from, struct writer *to, FILE *out);

static int copy_fields(const struct schema *fields, struct reader *from, struct writer *to, FILE *out)
{
    if (out)
        fprintf(out, "{ ");
    for (; fields && fields->name; fields++) {
        if (out)
            fprintf(out, "%s=", fields->name);
        if (!copy(fields, from, to, out))
            return 0;
        if (out)
            fprintf(out, " ");
    }
    if (out)
        fprintf(out, "}");
    return 1;
}

static int copy(const struct schema *schema, struct reader *from, struct writer *to, FILE *out)
{
    const uint8_t *bytes;
    uint64_t number, most = UINT64_MAX;

    switch (schema->type) {
    case BOOL:
    case U8:
        if (!get(from, &bytes, 1) || (schema->type == BOOL && *bytes > 1))
            return 0;
        if (out)
            fprintf(out, "%u", (unsigned)*bytes);
        put(to, bytes, 1);
        return 1;
    case U16:
    case U32:
        most = schema->type == U16 ? UINT16_MAX : UINT32_MAX; /* fall through */
    case U64:
        if (!get_number(from, most, &number))
            return 0;
        if (out)
            fprintf(out, "%llu", (unsigned long long)number);
        put_number(to, number);
        return 1;
    case TEXT:
    case BYTES:
        if (!get_number(from, from->left, &number) || !get(from, &bytes, (size_t)number))
            return 0;
        if (out && schema->type == TEXT)
            fprintf(out, "\"%.*s\"", (int)number, (const char *)bytes);
        else
            show_bytes(out, bytes, number);
        put_number(to, number);
        put(to, bytes, (size_t)number);
        return 1;
    case DIGEST:
        if (!get(from, &bytes, 32))
            return 0;
        show_bytes(out, bytes, 32);
        put(to, bytes, 32);
        return 1;
    case OPTION:
        if (!get(from, &bytes, 1) || *bytes > 1)
            return 0;
        put(to, bytes, 1);
        if (*bytes)
            return copy(schema->of, from, to, out);
        if (out)
            fprintf(out, "none");
        return 1;
    case LIST:
        if (!get_number(from, from->left, &number))
            return 0;
        put_number(to, number);
        if (out)
            fprintf(out, "[ ");
        for (; number; number--) {
            if (!copy(schema->of, from, to, out))
                return 0;
            if (out)
                fprintf(out, " ");
        }
        if (out)
            fprintf(out, "]");
        return 1;
    case FIELDS:
        return copy_fields(schema->of, from, to, out);
    case VARIANT:
        if (!get_number(from, UINT32_MAX, &number))
            return 0;
        put_number(to, number);
        for (const struct schema *variant = schema->of; variant->name; variant++) {
            if (number-- == 0) {
                if (out)
                    fprintf(out, "%s ", variant->name);
                return copy_fields(variant->of, from, to, out);
            }
        }
        return 0;
    }
    return 0;
}

/* A whole message, which is all that there is. */
static int copy_message(const uint8_t *bytes, size_t length, struct writer *to, FILE *out)
{
    if (length < HEADER || memcmp(bytes, "DBMG", 4) != 0 || get_le(bytes + 4, 2) != 1)
        return 0;
    uint32_t kind = get_le(bytes + 6, 2), id = get_le(bytes + 8, 4), body = get_le(bytes + 12, 4);
    if (kind < 1 || kind > sizeof kinds / sizeof *kinds || body > MAX_BODY || body != length - HEADER)
        return 0;
    if ((kind == 3 || kind == 6) && id != 0) /* a notice has no number */
        return 0;
    struct reader from = { bytes + HEADER, body };
    const struct schema *schema = &kinds[kind - 1];
    if (out)
        fprintf(out, "%s %u ", schema->name, (unsigned)id);
    begin(to);
    if (!copy(schema, &from, to, out) || from.left != 0)
        return 0;
    finish(to, (uint16_t)kind, id);
    return 1;
}

/* ---- the test ---- */

static size_t read_hex(const char *path, uint8_t *bytes, size_t room)
{
    FILE *file = fopen(path, "r");
    unsigned byte;
    size_t length = 0;
    if (!file) {
        perror(path);
        exit(1);
    }
    while (length < room && fscanf(file, "%2x", &byte) == 1)
        bytes[length++] = (uint8_t)byte;
    fclose(file);
    return length;
}

static int fail(const char *path, const char *what)
{
    fprintf(stderr, "%s: %s\n", path, what);
    return 0;
}

static int same(const struct writer *made, const uint8_t *bytes, size_t length)
{
    return made->length == length && memcmp(made->bytes, bytes, length) == 0;
}

/* Messages that a client makes itself, where the file is that of one. */
static int check_made(const char *path, const uint8_t *bytes, size_t length)
{
    static struct writer made;
    begin(&made);
    if (strstr(path, "server-request-hello")) {
        put_number(&made, 0); /* Hello */
        put_number(&made, 1); /* lowest */
        put_number(&made, 2); /* highest */
        put_text(&made, "control");
    } else if (strstr(path, "server-request-destroy")) {
        put_number(&made, 9); /* Destroy */
        put_number(&made, 0x7fef);
        put(&made, "\1", 1); /* the VM that has the serial number */
        put_number(&made, 300);
    } else {
        return 1;
    }
    finish(&made, 1, 7);
    return same(&made, bytes, length);
}

static int check(const char *path)
{
    static uint8_t bytes[HEADER + MAX_BODY];
    static struct writer made;
    size_t length = read_hex(path, bytes, sizeof bytes);

    if (!copy_message(bytes, length, &made, stdout))
        return fail(path, "does not decode");
    printf("\n");
    if (!same(&made, bytes, length))
        return fail(path, "is encoded differently");
    if (!check_made(path, bytes, length))
        return fail(path, "is not what this client makes");
    for (size_t cut = HEADER; cut < length; cut++) {
        put_le(bytes + 12, (uint32_t)(cut - HEADER), 4);
        if (copy_message(bytes, cut, &made, NULL))
            return fail(path, "decodes although it is cut short");
    }
    return 1;
}

int main(int count, char **paths)
{
    int good = 0;
    for (int i = 1; i < count; i++)
        good += check(paths[i]);
    printf("%d of %d messages are the same in C\n", good, count - 1);
    return count > 1 && good == count - 1 ? 0 : 1;
}
