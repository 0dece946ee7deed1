// A window whose network is in its own thread, but in another language. For GNUstep and macOS.

#import <AppKit/AppKit.h>

#include "network.h"

@interface MainWindow : NSObject
{
    NSWindow *window;
    NSTextField *label;
}
- (void)setLabel:(const char *)text;
- (void)openDialog:(const char *)text;
- (void)closePanel:(id)sender;
@end

static NSTextField *newLabel(NSRect frame, float size, NSString *text)
{
    NSTextField *field = [[NSTextField alloc] initWithFrame:frame];
    [field setEditable:NO];
    [field setBezeled:NO];
    [field setDrawsBackground:NO];
    [field setAlignment:NSCenterTextAlignment];
    [field setFont:[NSFont systemFontOfSize:size]];
    [field setStringValue:text];
    return field;
}

@implementation MainWindow

- (id)init
{
    if (!(self = [super init]))
        return nil;
    window = [[NSWindow alloc] initWithContentRect:NSMakeRect(100, 400, 640, 200)
                                         styleMask:NSTitledWindowMask | NSClosableWindowMask
                                           backing:NSBackingStoreBuffered
                                             defer:NO];
    [window setTitle:@"Entwined in Cocoa"];
    label = newLabel(NSMakeRect(10, 100, 620, 40), 18,
                     @"curl -X PUT --data hello 127.0.0.1:PORT/label");
    [[window contentView] addSubview:label];
    [window makeKeyAndOrderFront:nil];
    return self;
}

- (void)setLabel:(const char *)text
{
    [label setStringValue:[NSString stringWithUTF8String:text]];
    // While a panel is modal, GNUstep draws other windows only after an event of theirs.
    [window displayIfNeeded];
}

// A loop of its own. If a request opened it, that request waits, and others are served.
- (void)openDialog:(const char *)text
{
    NSPanel *panel = [[NSPanel alloc] initWithContentRect:NSMakeRect(180, 280, 480, 110)
                                                styleMask:NSTitledWindowMask
                                                  backing:NSBackingStoreBuffered
                                                    defer:NO];
    [panel setTitle:@"A dialog"];
    [[panel contentView] addSubview:newLabel(NSMakeRect(10, 60, 460, 30), 12,
                                             [NSString stringWithUTF8String:text])];
    NSButton *button = [[NSButton alloc] initWithFrame:NSMakeRect(190, 15, 100, 30)];
    [button setTitle:@"Close"];
    [button setTarget:self];
    [button setAction:@selector(closePanel:)];
    [[panel contentView] addSubview:button];
    [NSApp runModalForWindow:panel];
    [panel orderOut:nil];
    [panel release];
}

- (void)closePanel:(id)sender { [NSApp stopModal]; }

@end

static void set_label(void *window, const char *text) { [(MainWindow *)window setLabel:text]; }

static void open_dialog(void *window, const char *text) { [(MainWindow *)window openDialog:text]; }

// Later, so that the request that asks for it is answered.
static void quit(void *window)
{
    [NSApp performSelector:@selector(terminate:)
                withObject:nil
                afterDelay:0
                   inModes:[NSArray arrayWithObjects:NSDefaultRunLoopMode,
                                                     NSModalPanelRunLoopMode, nil]];
}

int main(int argc, const char **argv)
{
    NSAutoreleasePool *pool = [NSAutoreleasePool new];
    [NSApplication sharedApplication];
    MainWindow *window = [MainWindow new];
    const struct Window requests = { window, set_label, open_dialog, quit };
    if (!network_start(&requests))
        return 1;
    [NSApp run];
    [pool drain];
    return 0;
}
