#include "sim/sim_jobs.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/frame.h"

struct slot {
    pid_t pid; /* 0: free */
    int in;
    uint64_t seed;
};

/* ---- in the process of a seed ---- */

static const struct jobs *child_jobs;
static struct job_result child_result;
static int child_out = -1;

static bool tell(const struct job_result *result)
{
    return write(child_out, result, sizeof *result) == (ssize_t)sizeof *result;
}

/* What an assertion of the code under test logged before it aborted. */
static const char *failed_assertion(const struct sim_run *run)
{
    static const char begins[] = "assertion failed: ";
    for (uint64_t i = 0; i < run->note_count && i < RUN_NOTES; i++) {
        const char *text = run->notes[(run->note_count - 1 - i) % RUN_NOTES].text;
        const char *found = strstr(text, begins);
        if (found != NULL)
            return found + sizeof begins - 1;
    }
    return NULL;
}

/* An assertion of the code under test, or worse: the timeline tells what led there. */
static void child_crashed(int number)
{
    const struct sim_run *run = sim_run_current();
    struct job_result *result = &child_result;
    const char *assertion = run == NULL ? NULL : failed_assertion(run);
    result->failed = 1;
    if (number == SIGALRM)
        (void)snprintf(result->promise, sizeof result->promise, "a seed ends within %d s",
                       (int)JOB_SECONDS_MAX);
    else if (assertion != NULL)
        (void)snprintf(result->promise, sizeof result->promise, "no assertion fails: %.100s",
                       assertion); /* cut at the bound */
    else
        (void)snprintf(result->promise, sizeof result->promise, "no process dies of signal %d",
                       number);
    if (run != NULL)
        child_jobs->crashed(child_jobs->context, run, result->promise);
    (void)tell(result); /* else the parent is gone, too */
    signal(number, SIG_DFL);
    raise(number);
}

_Noreturn static void child_run(const struct jobs *jobs, uint64_t seed)
{
    child_jobs = jobs;
    child_result = (struct job_result){.seed = seed};
    signal(SIGABRT, child_crashed);
    signal(SIGSEGV, child_crashed);
    signal(SIGBUS, child_crashed);
    signal(SIGALRM, child_crashed);
    (void)alarm(JOB_SECONDS_MAX);
    jobs->run(jobs->context, seed, &child_result);
    frame_cache_drain();
    exit(tell(&child_result) ? 0 : 1);
}

/* ---- in the parent ---- */

static uint64_t real_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static void slot_start(struct slot *slot, const struct jobs *jobs, uint64_t seed)
{
    int ends[2];
    ASSERT(pipe(ends) == 0);
    (void)fflush(stdout); /* else the child has it, too */
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        child_out = ends[1];
        child_run(jobs, seed);
    }
    close(ends[1]);
    *slot = (struct slot){.pid = pid, .in = ends[0], .seed = seed};
}

static void slot_ended(struct slot *slot, int status, struct job_result *ret_result)
{
    if (read(slot->in, ret_result, sizeof *ret_result) != (ssize_t)sizeof *ret_result)
        *ret_result = (struct job_result){.seed = slot->seed};
    if ((!WIFEXITED(status) || WEXITSTATUS(status) != 0) && !ret_result->failed) {
        ret_result->failed = 1; /* a leak, found at the end; or killed from outside */
        (void)snprintf(ret_result->promise, sizeof ret_result->promise,
                       "the process of a seed ends well");
    }
    close(slot->in);
    slot->pid = 0;
}

void jobs_run(const struct jobs *jobs)
{
    struct slot slots[JOBS_MAX] = {0};
    uint64_t begun = 0, began_s = real_seconds();
    unsigned running = 0;
    bool stopped = false;
    ASSERT(jobs->at_a_time > 0 && jobs->at_a_time <= JOBS_MAX);
    for (;;) {
        for (unsigned i = 0; i < jobs->at_a_time && !stopped && begun < jobs->count; i++) {
            if (slots[i].pid != 0)
                continue;
            slot_start(&slots[i], jobs, jobs->first_seed + begun++);
            running++;
        }
        if (running == 0)
            return;
        int status;
        pid_t pid = wait(&status);
        for (unsigned i = 0; i < jobs->at_a_time; i++) {
            if (slots[i].pid != pid)
                continue;
            struct job_result result;
            slot_ended(&slots[i], status, &result);
            running--;
            if (!stopped || !jobs->stop_at_failure)
                jobs->ended(jobs->context, &result);
            stopped = stopped || (result.failed && jobs->stop_at_failure);
        }
        stopped = stopped || (jobs->seconds != 0 && real_seconds() - began_s >= jobs->seconds);
        for (unsigned i = 0; stopped && jobs->stop_at_failure && i < jobs->at_a_time; i++)
            if (slots[i].pid != 0)
                kill(slots[i].pid, SIGKILL); /* what it would find, nobody asks any more */
    }
}
