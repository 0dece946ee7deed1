// What the tests need of AppKit: an application, timers, and a panel that is modal.

#define _GNU_SOURCE
#import <AppKit/AppKit.h>
#include <unistd.h>

// Implemented in Rust. They do not unwind. True: call it again.
bool cocoa_host_call(void *work);
void cocoa_host_drop(void *work);

static NSArray *modes(void)
{
    return [NSArray arrayWithObjects:NSDefaultRunLoopMode, NSModalPanelRunLoopMode,
                                     NSEventTrackingRunLoopMode, nil];
}

// A closure of the host, and its timer.
@interface HostTimer : NSObject
{
    void *work;
    NSTimer *timer;
    // How many of its calls are on the stack.
    int depth;
}
- (id)initWithWork:(void *)aWork every:(double)seconds;
- (void)fire:(NSTimer *)aTimer;
- (void)end;
@end

@implementation HostTimer

- (id)initWithWork:(void *)aWork every:(double)seconds
{
    if ((self = [super init])) {
        work = aWork;
        timer = [NSTimer timerWithTimeInterval:seconds
                                        target:self
                                      selector:@selector(fire:)
                                      userInfo:nil
                                       repeats:YES];
        NSEnumerator *each = [modes() objectEnumerator];
        NSString *mode;
        while ((mode = [each nextObject]))
            [[NSRunLoop currentRunLoop] addTimer:timer forMode:mode];
    }
    return self;
}

- (void)fire:(NSTimer *)aTimer
{
    (void)aTimer;
    if (!timer)
        return;
    [self retain];
    ++depth;
    const bool more = cocoa_host_call(work);
    --depth;
    // It may have been ended inside the call, in which its closure still ran.
    if (!more || !timer)
        [self end];
    [self release];
}

- (void)end
{
    [timer invalidate];
    timer = nil;
    if (depth > 0 || !work)
        return;
    void *mine = work;
    work = NULL;
    cocoa_host_drop(mine);
}

@end

void cocoa_host_application(void)
{
    // The program's own arguments name tests. The application would open files of these names.
    static char name[] = "cocoa-host";
    static char *arguments[] = { name, NULL };
    [NSProcessInfo initializeWithArguments:arguments count:1 environment:environ];
    [[NSAutoreleasePool alloc] init];
    // GNUstep decorates its windows itself. Otherwise it would measure what the window manager
    // makes of them, and wait for it, for ever if there is none.
    [[NSUserDefaults standardUserDefaults]
        registerDefaults:[NSDictionary dictionaryWithObject:@"NO"
                                                     forKey:@"GSX11HandlesWindowDecorations"]];
    [NSApplication sharedApplication];
    [NSApp finishLaunching];
}

// [NSApp run] returns after this.
void cocoa_host_stop(void)
{
    [NSApp stop:nil];
    [NSApp postEvent:[NSEvent otherEventWithType:NSApplicationDefined
                                        location:NSZeroPoint
                                   modifierFlags:0
                                       timestamp:0
                                    windowNumber:0
                                         context:nil
                                         subtype:0
                                           data1:0
                                           data2:0]
             atStart:NO];
}

void cocoa_host_run(void)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    [NSApp run];
    [pool drain];
}

void cocoa_host_terminate(void) { [NSApp terminate:nil]; }

void *cocoa_host_every(double seconds, void *work)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    HostTimer *timer = [[HostTimer alloc] initWithWork:work every:seconds];
    [pool drain];
    return timer;
}

void cocoa_host_end(void *timer)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    [(HostTimer *)timer end];
    [(HostTimer *)timer release];
    [pool drain];
}

// One iteration, and the events that came.
void cocoa_host_iterate(double seconds)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    [[NSRunLoop currentRunLoop] runMode:NSDefaultRunLoopMode
                             beforeDate:[NSDate dateWithTimeIntervalSinceNow:seconds]];
    NSEvent *event;
    while ((event = [NSApp nextEventMatchingMask:NSAnyEventMask
                                       untilDate:[NSDate distantPast]
                                          inMode:NSDefaultRunLoopMode
                                         dequeue:YES]))
        [NSApp sendEvent:event];
    [pool drain];
}

void *cocoa_host_panel(void)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    NSPanel *panel = [[NSPanel alloc] initWithContentRect:NSMakeRect(80, 80, 400, 80)
                                                styleMask:NSTitledWindowMask
                                                  backing:NSBackingStoreBuffered
                                                    defer:NO];
    [panel setReleasedWhenClosed:NO];
    [panel setTitle:@"A panel"];
    [pool drain];
    return panel;
}

// Returns when the panel is stopped.
void cocoa_host_panel_run(void *panel)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    [NSApp runModalForWindow:(NSPanel *)panel];
    [(NSPanel *)panel orderOut:nil];
    [pool drain];
}

// Ends the innermost one.
void cocoa_host_panel_stop(void)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    [NSApp stopModal];
    [NSApp postEvent:[NSEvent otherEventWithType:NSApplicationDefined
                                        location:NSZeroPoint
                                   modifierFlags:0
                                       timestamp:0
                                    windowNumber:0
                                         context:nil
                                         subtype:0
                                           data1:0
                                           data2:0]
             atStart:NO];
    [pool drain];
}

void cocoa_host_panel_delete(void *panel)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    [(NSPanel *)panel close];
    [(NSPanel *)panel release];
    [pool drain];
}
