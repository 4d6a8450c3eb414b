/* Measures commands in the Linux Dom0 that db-boot is compared with, by the processor's time stamp counter: in QEMU with
 * -icount it counts the machine's nanoseconds from power-on, and Xen hands it to Dom0 as it is.
 *
 *   meter NAME COMMAND...   runs the command and prints `BENCH name=NAME start=N took=N status=N`, the times in ticks
 *   meter seed              fills the kernel's random pool: the emulated processor has no source, and libuuid would wait for one
 */
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int seed(void)
{
    /* Random enough to wake what waits for it; nothing here is a secret. */
    struct { struct rand_pool_info info; unsigned char bytes[512]; } pool = {
        .info = { .entropy_count = 4096, .buf_size = 512 },
    };
    for (unsigned i = 0; i < sizeof pool.bytes; i++)
        pool.bytes[i] = (unsigned char)(__rdtsc() >> 2 ^ i * 167);
    int file = open("/dev/random", O_WRONLY);
    if (file < 0)
        return fail("/dev/random");
    return ioctl(file, RNDADDENTROPY, &pool) == 0 ? 0 : fail("RNDADDENTROPY");
}

int main(int count, char **words)
{
    if (count == 2 && strcmp(words[1], "seed") == 0)
        return seed();
    if (count < 3) {
        fputs("usage: meter seed | meter NAME COMMAND...\n", stderr);
        return 2;
    }
    unsigned long long start = __rdtsc();
    pid_t child = vfork();
    if (child == 0) {
        execvp(words[2], words + 2);
        _exit(127);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return fail(words[2]);
    unsigned long long took = __rdtsc() - start;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    printf("BENCH name=%s start=%llu took=%llu status=%d\n", words[1], start, took, code);
    return code;
}
