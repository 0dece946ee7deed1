// What GNUstep and macOS share: closures that run on the main thread in each mode of its run loop,
// and the notification that the application terminates. Foundation only; references are counted by
// hand, because GCC's Objective-C has no ARC.

#import <Foundation/Foundation.h>

// Implemented in Rust. They do not unwind.
void entwined_cocoa_run(void *call);
void entwined_cocoa_refuse(void *call);
void entwined_cocoa_terminate(void *attached);

// A closure. It runs once, or is dropped unrun with its object.
@interface EntwinedCall : NSObject
{
    void *call;
}
- (id)initWithCall:(void *)aCall;
- (void)run;
@end

@implementation EntwinedCall

- (id)initWithCall:(void *)aCall
{
    if ((self = [super init]))
        call = aCall;
    return self;
}

- (void)run
{
    void *mine = call;
    call = NULL;
    if (mine)
        entwined_cocoa_run(mine);
}

- (void)dealloc
{
    if (call)
        entwined_cocoa_refuse(call);
    [super dealloc];
}

@end

// Hears that the application terminates.
@interface EntwinedEnd : NSObject
{
    void *attached;
}
- (id)initWithAttached:(void *)anAttached;
- (void)terminate:(NSNotification *)notification;
- (void)retire;
@end

@implementation EntwinedEnd

- (id)initWithAttached:(void *)anAttached
{
    if ((self = [super init])) {
        attached = anAttached;
        // By its text, and so without linking AppKit.
        [[NSNotificationCenter defaultCenter] addObserver:self
                                                 selector:@selector(terminate:)
                                                     name:@"NSApplicationWillTerminateNotification"
                                                   object:nil];
    }
    return self;
}

- (void)terminate:(NSNotification *)notification
{
    (void)notification;
    if (attached)
        entwined_cocoa_terminate(attached);
}

- (void)retire
{
    attached = NULL;
    [[NSNotificationCenter defaultCenter] removeObserver:self];
}

@end

// The modes of an application's loop: also while a panel is modal, and while the mouse drags.
static NSArray *modes(void)
{
#ifdef __APPLE__
    return [NSArray arrayWithObject:NSRunLoopCommonModes];
#else
    return [NSArray arrayWithObjects:NSDefaultRunLoopMode, @"NSModalPanelRunLoopMode",
                                     @"NSEventTrackingRunLoopMode", nil];
#endif
}

int entwined_cocoa_is_main_thread(void)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    const int is_main = [NSThread isMainThread];
    [pool drain];
    return is_main;
}

// Makes the main thread run the closure. Any thread may call it. It takes the closure in any case.
void entwined_cocoa_post(void *call)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    EntwinedCall *object = [[EntwinedCall alloc] initWithCall:call];
    @try {
        [object performSelectorOnMainThread:@selector(run)
                                 withObject:nil
                              waitUntilDone:NO
                                      modes:modes()];
    } @catch (NSException *exception) {
        NSLog(@"entwined: the main thread's loop takes no calls: %@", exception);
    }
    [object release];
    [pool drain];
}

void *entwined_cocoa_observe(void *attached)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    EntwinedEnd *end = [[EntwinedEnd alloc] initWithAttached:attached];
    [pool drain];
    return end;
}

void entwined_cocoa_retire(void *end)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    [(EntwinedEnd *)end retire];
    [(EntwinedEnd *)end release];
    [pool drain];
}

// Runs one iteration of the loop, which waits at most this long.
void entwined_cocoa_iterate(double seconds)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    @try {
        [[NSRunLoop currentRunLoop] runMode:NSDefaultRunLoopMode
                                 beforeDate:[NSDate dateWithTimeIntervalSinceNow:seconds]];
    } @catch (NSException *exception) {
        NSLog(@"entwined: while the network ends: %@", exception);
    }
    [pool drain];
}
