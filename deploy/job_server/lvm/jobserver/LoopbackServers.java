package lvm.jobserver;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.beam.model.pipeline.v1.Endpoints.ApiServiceDescriptor;
import org.apache.beam.sdk.fn.server.GrpcContextHeaderAccessorProvider;
import org.apache.beam.sdk.fn.server.ServerFactory;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.BindableService;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.Server;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.ServerInterceptors;
import org.apache.beam.vendor.grpc.v1p60p1.io.grpc.netty.NettyServerBuilder;
import org.kohsuke.args4j.CmdLineException;
import org.kohsuke.args4j.CmdLineParser;

/**
 * Makes servers that only this machine reaches. Beam's own listen on every network interface,
 * without a password, and whoever reaches them can start a program.
 */
final class LoopbackServers extends ServerFactory {
  @Override
  public Server allocateAddressAndCreate(
      List<BindableService> services, ApiServiceDescriptor.Builder address) throws IOException {
    Server server = start(services, 0);
    address.setUrl("localhost:" + server.getPort());
    return server;
  }

  @Override
  public Server create(List<BindableService> services, ApiServiceDescriptor address)
      throws IOException {
    String url = address.getUrl();
    return start(services, Integer.parseInt(url.substring(url.lastIndexOf(':') + 1)));
  }

  private static Server start(List<BindableService> services, int port) throws IOException {
    NettyServerBuilder builder =
        NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), port))
            .maxInboundMessageSize(Integer.MAX_VALUE)
            .permitKeepAliveTime(20, TimeUnit.SECONDS);
    for (BindableService service : services) {
      builder.addService(
          ServerInterceptors.intercept(service, GrpcContextHeaderAccessorProvider.interceptor()));
    }
    return builder.build().start();
  }

  /** Fills a configuration from the words of a command line; ends the program where they are wrong. */
  static <T> T parse(T configuration, String[] words) {
    try {
      new CmdLineParser(configuration).parseArgument(words);
    } catch (CmdLineException error) {
      System.err.println(error.getMessage());
      System.exit(2);
    }
    return configuration;
  }
}
